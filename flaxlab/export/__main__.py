"""Exports the model that a run has stored, for use without flaxlab.

Writes StableHLO by jax.export, for any number of images at a time and for CPU, GPU and TPU, the
weights as safetensors, and a README that shows how to call it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from flaxlab.command_line import CommandParser, add_stored_model, run_command
from flaxlab.errors import UsageError
from flaxlab.machine import take_gpu_memory_as_needed

_EXAMPLES = """examples:
  python -m flaxlab.export runs/alexnet_pool --to=exported
  python -m flaxlab.export runs/alexnet_pool --to=exported --step=best
"""


def main(arguments: Sequence[str]) -> None:
    """Loads the model and writes it.

    Raises:
        UsageError: an option is wrong, the run cannot be read, or the folder cannot be written.
    """
    take_gpu_memory_as_needed()
    parser = CommandParser(
        prog="python -m flaxlab.export",
        description=__doc__,
        epilog=_EXAMPLES,
        allow_abbrev=False,
    )
    add_stored_model(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to write to")
    options = parser.parse_args(arguments)
    from flaxlab.export.export import export_model
    from flaxlab.run.load import load_stored

    stored = load_stored(options.run, options.step, options.model)
    to = options.to.expanduser()
    try:
        export_model(stored, to)
    except OSError as error:
        raise UsageError(f"--to={to} cannot be written ({error})") from error
    print(f"exported {stored.config.name}, epoch {stored.epoch}: {to / 'README.md'}")


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
