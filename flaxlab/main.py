"""Runs one experiment, from its config to its report.

After an interruption, start the same command again: the run resumes where it stopped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from flaxlab.command_line import CommandParser, run_command
from flaxlab.machine import take_gpu_memory_as_needed, use_huge_pages
from flaxlab.run.group import add_options, find_group
from flaxlab.run.guard import run_guarded

_EXAMPLES = """examples:
  python -m flaxlab.main --config=experiments/quickstart.py
  python -m flaxlab.main --config=experiments/alexnet_pool.py --config.data.name=digits --show
  python -m flaxlab.main --config=experiments/vgg_default.py --workdir=runs/vgg_1 --config.seed=1
  srun python -m flaxlab.main --config=experiments/vgg_default.py
  python -m flaxlab.main --config=experiments/vgg_default.py \
      --coordinator=node1:29500 --num_processes=2 --process_id=0

--config.FIELD=VALUE overrides any field of flaxlab/config/default.py, and docs/knobs.md has a table
of them; a tuple is written --config.model.head_dropout="(0.4, 0.4)".
"""


def main(arguments: Sequence[str]) -> None:
    """Trains, scores and reports; writes everything to the run directory.

    Raises:
        UsageError: an option, the experiment file, an override or the run directory is wrong.
        SystemExit: the process belongs to a group; see `flaxlab.run.guard`.
    """
    parser = CommandParser(
        prog="python -m flaxlab.main",
        description=__doc__,
        epilog=_EXAMPLES,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, type=Path, help="experiment file, or its name")
    parser.add_argument("--workdir", type=Path, help="run directory; default runs/NAME")
    parser.add_argument(
        "--show",
        nargs="?",
        const="layers",
        choices=("layers", "config"),
        help="train nothing; print what would run: data, steps, what the experiment changes, and"
        " the table of layers (layers, the default), or only the whole config as JSON (config)",
    )
    add_options(parser)
    options, overrides = parser.parse_known_args(arguments)
    if options.show:
        take_gpu_memory_as_needed()
    group = None if options.show else find_group(options, os.environ)

    def run(join: Callable[[], None] = lambda: None) -> None:
        # Importing JAX takes a second: wrong options are reported before.
        from flaxlab.run.run import run_experiment

        run_experiment(options.config, overrides, options.workdir, options.show, arguments, join)

    if group is None:
        run()
    else:
        run_guarded(run, group)


if __name__ == "__main__":
    use_huge_pages()
    run_command(main, sys.argv[1:])
