"""Keeps finished runs in a ledger, without their checkpoints and pictures.

Each run is checked first: its accuracy is computed again from its predictions, its config must be
that of its experiment file, and all of its code must have been committed. The kept files do not
name any folder of the machine that made the run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from flaxlab.command_line import CommandParser, run_command

_EXAMPLES = """examples:
  python -m flaxlab.ledger runs/alexnet_fashion --to=results/alexnet_fashion
  python -m flaxlab.ledger results/alexnet_fashion     # runs that a suite added there, in place
  python -m flaxlab.ledger runs/alexnet_fashion --to=results/alexnet_fashion \\
      --suite=experiments/suites/alexnet_fashion.py    # runs of flaxlab.main, with the claims
  python -m flaxlab.ledger results --check             # changes nothing

A suite whose --workdir is a folder of a ledger treats the runs there as finished, and adds those
that are missing.
"""


def main(arguments: Sequence[str]) -> None:
    """Checks runs, and keeps their small files.

    Raises:
        UsageError: a run does not belong in a ledger, or cannot be read.
    """
    parser = CommandParser(
        prog="python -m flaxlab.ledger",
        description=__doc__,
        epilog=_EXAMPLES,
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="folder with runs, at any depth")
    parser.add_argument("--to", type=Path, help="ledger folder; default: the same, in place")
    parser.add_argument(
        "--experiments", type=Path, help="folder of experiment files; default: flaxlab's own"
    )
    parser.add_argument(
        "--suite", type=Path, help="suite that the runs belong to, if they were made one by one"
    )
    parser.add_argument("--check", action="store_true", help="check the runs, but write nothing")
    options = parser.parse_args(arguments)
    from flaxlab.ledger.keep import keep_runs

    for line in keep_runs(
        options.folder.expanduser(),
        None if options.check else (options.to or options.folder).expanduser(),
        [options.experiments.expanduser()] if options.experiments else [],
        options.suite.expanduser() if options.suite else None,
    ):
        print(line)


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
