"""Runs a suite, each of its arms with each of its seeds, and compares them.

Start the same command again after an interruption: what is finished is skipped, and the run that
was interrupted goes on where it stopped. With --sweep, the arms are values of one field. With
--launcher, tasks do the runs: processes of this machine, or jobs of Slurm.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flaxlab.command_line import CommandParser, run_command
from flaxlab.machine import use_huge_pages
from flaxlab.suite.options import add_options, read_options

_EXAMPLES = """examples:
  python -m flaxlab.suite --config=experiments/suites/alexnet_fashion.py --show
  python -m flaxlab.suite --config=experiments/suites/alexnet_fashion.py --seeds=3
  python -m flaxlab.suite --config=experiments/suites/vgg_cifar.py --config.train.epochs=5
  python -m flaxlab.suite --config=experiments/alexnet_pool.py \\
      --sweep.optimizer.learning_rate=1e-2,1e-3,1e-4
  python -m flaxlab.suite --config=experiments/suites/vgg_cifar.py --launcher=processes
  python -m flaxlab.suite --config=experiments/suites/vgg_cifar.py --launcher=slurm \\
      --partition=gpu --time=240 --gpus=1 --cpus=8 --memory=32G

--config.FIELD=VALUE overrides any field of flaxlab/config/default.py in every arm; --config.seed is
the first seed. Each run is a run directory as flaxlab.main makes it: WORKDIR/ARM/seed_N.
"""


_MOST_SEEDS = 10_000


def main(arguments: Sequence[str]) -> None:
    """Runs what is not finished, then writes the comparison."""
    parser = CommandParser(
        prog="python -m flaxlab.suite",
        description=__doc__,
        epilog=_EXAMPLES,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", required=True, type=Path, help="suite file; with --sweep, an experiment file"
    )
    parser.add_argument("--workdir", type=Path, help="folder of the runs; default runs/NAME")
    parser.add_argument("--seeds", type=_count, help="runs of each arm; default: the suite's, 5")
    parser.add_argument(
        "--show",
        action="store_true",
        help="print the arms and train nothing",
    )
    add_options(parser)
    options, rest = parser.parse_known_args(arguments)
    sweeps = [argument for argument in rest if argument.startswith("--sweep")]
    for_slurm = [argument for argument in rest if argument.startswith("--slurm")]
    overrides = [each for each in rest if not each.startswith(("--sweep", "--slurm"))]
    launch = read_options(options, for_slurm)
    # Importing JAX and the rest takes a second: not before the options are known to be right.
    from flaxlab.suite.command import run

    run(
        options.config,
        overrides,
        sweeps,
        options.seeds,
        options.workdir,
        options.show,
        launch,
        arguments,
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_SEEDS:
        expected = f"expected 1 to {_MOST_SEEDS:,}"
        raise argparse.ArgumentTypeError(f"{text} is no number of runs; {expected}")
    return int(text)


if __name__ == "__main__":
    use_huge_pages()
    run_command(main, sys.argv[1:])
