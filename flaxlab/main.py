"""Command line: runs one experiment, from its config to its report.

Start the same command again after an interruption, and the run goes on where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from flaxlab.errors import CommandParser, run_command
from flaxlab.process import use_huge_pages

_EXAMPLES = """examples:
  python -m flaxlab.main --config=experiments/quickstart.py
  python -m flaxlab.main --config=experiments/alexnet_pool.py --config.train.epochs=3
  python -m flaxlab.main --config=experiments/alexnet_pool.py --config.data.name=digits --show
  python -m flaxlab.main --config=experiments/vgg_default.py --workdir=runs/vgg_1 --config.seed=1

--config.FIELD=VALUE overrides any field of flaxlab/config.py; a tuple is written
--config.model.head_dropout="(0.4, 0.4)".
"""


def main(arguments: Sequence[str]) -> None:
    """Trains, scores and reports; writes everything to the run directory.

    Raises:
        UsageError: an option, the experiment file, an override or the run directory is wrong.
    """
    parser = CommandParser(
        prog="python -m flaxlab.main",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=CommandParser.keep_lines,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, type=Path, help="experiment file")
    parser.add_argument("--workdir", type=Path, help="run directory; default runs/NAME")
    parser.add_argument(
        "--show", action="store_true", help="print config and layers, and train nothing"
    )
    options, overrides = parser.parse_known_args(arguments)
    # Importing JAX and the rest takes a second: not before the options are known to be right.
    from flaxlab.run import run_experiment

    run_experiment(options.config, overrides, options.workdir, options.show, arguments)


if __name__ == "__main__":
    use_huge_pages()
    run_command(main, sys.argv[1:])
