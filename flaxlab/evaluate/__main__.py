"""Scores the model that a run has stored, on its own or on other data.

Batch normalization can use three kinds of statistics: the stored running ones, each batch's own, or
ones recomputed on the training split.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flaxlab.command_line import CommandParser, add_stored_model, run_command
from flaxlab.errors import UsageError
from flaxlab.machine import (
    set_up_compiler,
    take_gpu_memory_as_needed,
    use_huge_pages,
)

_EXAMPLES = """examples:
  python -m flaxlab.evaluate runs/alexnet_pool
  python -m flaxlab.evaluate runs/alexnet_pool --step=best --format=json
  python -m flaxlab.evaluate runs/alexnet_pool --batch_stats=running,batch,recomputed
  python -m flaxlab.evaluate runs/alexnet_pool --data.name=folder --data.folder=pictures

--data.FIELD=VALUE overrides a field of the run's config.data.
"""


def main(arguments: Sequence[str]) -> None:
    """Loads the model and the data, and prints the scores.

    Raises:
        UsageError: an option is wrong, or the run or the data cannot be read.
    """
    take_gpu_memory_as_needed()
    parser = CommandParser(
        prog="python -m flaxlab.evaluate",
        description=__doc__,
        epilog=_EXAMPLES,
        allow_abbrev=False,
    )
    add_stored_model(parser)
    parser.add_argument("--batch_stats", default="running", help="running, batch, recomputed")
    parser.add_argument(
        "--batch_size", type=int, help="default: that of training; on a GPU about 512"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options, rest = parser.parse_known_args(arguments)
    for argument in rest:
        if not argument.startswith("--data."):
            raise UsageError(
                f"unexpected argument {argument}; expected --data.FIELD=VALUE (see --help)"
            )
    if options.batch_size is not None and options.batch_size < 1:
        raise UsageError(f"--batch_size={options.batch_size} is not a size; expected 1 or more")
    from flaxlab.evaluate.command import evaluate
    from flaxlab.run.load import load_stored

    overrides = [argument.replace("--data.", "--config.data.", 1) for argument in rest]
    kinds = [kind.strip() for kind in options.batch_stats.split(",")]
    set_up_compiler()
    stored = load_stored(options.run, options.step, options.model)
    evaluate(stored, overrides, kinds, options.batch_size, options.format)


if __name__ == "__main__":
    use_huge_pages()
    run_command(main, sys.argv[1:])
