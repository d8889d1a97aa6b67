"""Runs each arm of a suite with each seed, and compares the arms.

After an interruption, start the same command again: it skips finished runs, and continues the
interrupted one where it stopped. With --sweep, the arms are values of one or more fields. With
--launcher, tasks do the runs: processes on this machine, or Slurm jobs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flaxlab.command_line import CommandParser, run_command
from flaxlab.machine import use_huge_pages
from flaxlab.suite.options import add_options, read_options

_EXAMPLES = """examples:
  python -m flaxlab.suite --config=experiments/suites/alexnet_fashion.py --show
  python -m flaxlab.suite --config=experiments/suites/alexnet_fashion.py --seeds=3
  python -m flaxlab.suite --config=experiments/suites/alexnet_fashion.py --plan=0.5 --spread=0.7
  python -m flaxlab.suite --config=experiments/suites/vgg_cifar.py --config.train.epochs=5
  python -m flaxlab.suite --config=experiments/alexnet_pool.py \\
      --sweep.optimizer.learning_rate=1e-2,1e-3,1e-4
  python -m flaxlab.suite --config=experiments/suites/vgg_cifar.py --launcher=processes
  python -m flaxlab.suite --config=experiments/suites/vgg_cifar.py --launcher=slurm \\
      --partition=gpu --time=240 --gpus=1 --cpus=8 --memory=32G

--config.FIELD=VALUE overrides any field of flaxlab/config/default.py in every arm; --config.seed is
the first seed. Each run gets a run directory like one of flaxlab.main: WORKDIR/ARM/seed_N.
"""


def main(arguments: Sequence[str]) -> None:
    """Runs what is not finished, then writes the comparison.

    Raises:
        UsageError: an option, the suite's file or an override is wrong.
        RunFailed: some runs failed; the others are complete and compared.
        Interrupted: a signal asked to stop.
    """
    parser = CommandParser(
        prog="python -m flaxlab.suite",
        description=__doc__,
        epilog=_EXAMPLES,
        allow_abbrev=False,
    )
    add_options(parser)
    options = read_options(parser, arguments)
    # Importing JAX and the rest takes a second: not before the options are known to be right.
    from flaxlab.suite.command import run

    run(options)


if __name__ == "__main__":
    use_huge_pages()
    run_command(main, sys.argv[1:])
