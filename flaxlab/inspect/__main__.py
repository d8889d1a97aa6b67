"""Shows the contents of a checkpoint of flaxlab or of any other project that uses Orbax.

Takes a run directory, its checkpoints, one step, or one saved tree. Reads no array without --stats,
--plot or --diff. Beside parameters, a table counts the optimizer's state (opt_state) in one line;
--all, or a --filter that matches it, lists it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from flaxlab.command_line import CommandParser, run_command
from flaxlab.errors import UsageError
from flaxlab.machine import take_gpu_memory_as_needed

_EXAMPLES = """examples:
  python -m flaxlab.inspect runs/alexnet_pool
  python -m flaxlab.inspect runs/alexnet_pool --stats --filter='params/.*kernel' --step=best
  python -m flaxlab.inspect runs/alexnet_pool --all
  python -m flaxlab.inspect runs/alexnet_pool --format=json
  python -m flaxlab.inspect runs/alexnet_pool --plot=pictures
  python -m flaxlab.inspect runs/alexnet_pool --verify
  python -m flaxlab.inspect --diff runs/alexnet_pool runs/alexnet_default --filter=^params
"""


def main(arguments: Sequence[str]) -> None:
    """Lists, describes, draws, verifies or compares checkpoints.

    Raises:
        UsageError: options are wrong, or there is no checkpoint, or it is damaged.
    """
    take_gpu_memory_as_needed()
    parser = CommandParser(
        prog="python -m flaxlab.inspect",
        description=__doc__,
        epilog=_EXAMPLES,
        allow_abbrev=False,
    )
    parser.add_argument("paths", nargs="+", type=Path, help="a checkpoint; two with --diff")
    parser.add_argument("--step", help="latest (the default), best or a number")
    parser.add_argument(
        "--filter", help="regular expression; take every array whose path matches, and no other"
    )
    parser.add_argument("--all", action="store_true", help="list the optimizer's state as well")
    parser.add_argument(
        "--format",
        choices=("table", "json", "csv"),
        help="table (the default), or json or csv, which always have all arrays",
    )
    parser.add_argument("--stats", action="store_true", help="read the arrays, describe the values")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="write pictures to this folder")
    parser.add_argument("--verify", action="store_true", help="check the sha256 of every file")
    parser.add_argument("--diff", action="store_true", help="compare two checkpoints")
    options = parser.parse_args(arguments)
    if sum(map(bool, (options.stats, options.plot, options.verify, options.diff))) > 1:
        raise UsageError("--stats, --plot, --verify and --diff exclude each other; choose one")
    if len(options.paths) != (2 if options.diff else 1):
        raise UsageError("expected two checkpoints after --diff, and one without it")
    if options.verify and (options.step or options.filter or options.format):
        raise UsageError(
            "--verify checks every file of every step; leave out --step, --filter and --format"
        )
    if options.all and (options.plot or options.verify):
        raise UsageError("--all is about what is listed; leave it out with --plot and --verify")
    if options.plot and options.format:
        raise UsageError("--plot writes pictures; leave out --format")
    from flaxlab.inspect import command

    keep = command.matching(options.filter)
    step, form = options.step or "latest", options.format or "table"
    everything = bool(options.all or options.filter or form != "table")
    if options.diff:
        a, b = options.paths
        command.compare(a, b, step, keep, form, everything)
    elif options.verify:
        command.verify(options.paths[0])
    elif options.plot:
        command.plot(options.paths[0], step, keep, options.plot.expanduser())
    else:
        command.show(options.paths[0], step, keep, form, options.stats, everything)


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
