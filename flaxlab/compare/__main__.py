"""Compares finished runs, paired by seed, and writes comparison.html, .md and .csv.

Takes the folder of a suite, or any folders with runs of one protocol. With --index it compares
nothing, and lists all runs on a page.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from flaxlab.command_line import CommandParser, open_console, run_command
from flaxlab.errors import UsageError

_EXAMPLES = """examples:
  python -m flaxlab.compare runs/alexnet_fashion
  python -m flaxlab.compare runs/alexnet_default runs/alexnet_pool --to=runs/pool_or_not
  python -m flaxlab.compare runs --baseline=alexnet_default
  python -m flaxlab.compare runs/alexnet_fashion --format=latex --pictures=pdf > arms.tex
  python -m flaxlab.compare runs --index
  python -m flaxlab.compare runs/pool_1 runs/pool_2 --vary=optimizer.learning_rate

Arms are told apart by name and config, the runs of an arm by seed. All runs must share data,
optimizer and training, but for what a suite swept and what --vary names.
"""


def main(arguments: Sequence[str]) -> None:
    """Reads runs, compares or lists them, writes.

    Raises:
        UsageError: options are wrong, or the runs cannot be read or compared.
    """
    parser = CommandParser(
        prog="python -m flaxlab.compare",
        description=__doc__,
        epilog=_EXAMPLES,
        allow_abbrev=False,
    )
    parser.add_argument("folders", nargs="+", type=Path, help="folders with runs, at any depth")
    parser.add_argument("--to", type=Path, help="folder to write to; default: the first folder")
    parser.add_argument("--baseline", help="the arm to compare with")
    parser.add_argument("--vary", default="", help="fields that may differ, with commas between")
    parser.add_argument(
        "--format",
        choices=("table", "csv", "latex"),
        help="what to print: a table and verdicts (the default), the numbers as comparison.csv has"
        " them, or a table for a paper",
    )
    parser.add_argument(
        "--pictures",
        choices=("png", "pdf"),
        help="the kind of the pictures beside the page; default: png",
    )
    parser.add_argument(
        "--index",
        action="store_true",
        help="write index.html, a page of all runs, whatever their protocols",
    )
    options = parser.parse_args(arguments)
    folders = [folder.expanduser() for folder in options.folders]
    to = (options.to or folders[0]).expanduser()
    if options.index:
        if options.baseline or options.vary or options.format or options.pictures:
            raise UsageError(
                "--index compares nothing; leave out --baseline, --vary, --format and --pictures"
            )
        from flaxlab.compare.index import index_runs

        index_runs(open_console(), folders, to)
        return
    from flaxlab.compare.command import compare_folders

    compare_folders(
        open_console(),
        folders,
        to,
        options.baseline,
        [field.strip() for field in options.vary.split(",") if field.strip()],
        options.format or "table",
        options.pictures or "png",
    )


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
