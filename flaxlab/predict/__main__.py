"""Classifies pictures with the model that a run has stored.

A picture of any size and mode is turned upright, converted to grey or RGB with transparency laid on
white, cropped at its centre to the aspect ratio of the model's input, and resized.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from flaxlab.command_line import CommandParser, add_stored_model, run_command
from flaxlab.errors import UsageError
from flaxlab.machine import take_gpu_memory_as_needed

_EXAMPLES = """examples:
  python -m flaxlab.predict runs/alexnet_pool shoe.png
  python -m flaxlab.predict runs/alexnet_pool pictures --top=5 --format=json
  python -m flaxlab.predict runs/alexnet_pool shoe.jpg --invert --explain=saliency --method=grad_cam

Fashion-MNIST shows light clothes on black: use --invert for dark ones on white.
"""


def main(arguments: Sequence[str]) -> None:
    """Loads the model, classifies the pictures and prints their classes.

    Raises:
        UsageError: an option is wrong, or the run or an image cannot be read.
    """
    take_gpu_memory_as_needed()
    parser = CommandParser(
        prog="python -m flaxlab.predict",
        description=__doc__,
        epilog=_EXAMPLES,
        allow_abbrev=False,
    )
    add_stored_model(parser)
    parser.add_argument("pictures", nargs="+", type=Path, help="PNG or JPEG files, or folders")
    parser.add_argument("--top", type=int, default=3, help="classes to show; default 3")
    parser.add_argument("--invert", action="store_true", help="invert the pixels first")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument("--explain", type=Path, metavar="DIR", help="write saliency pictures here")
    parser.add_argument(
        "--method",
        choices=("gradient", "smoothgrad", "grad_cam"),
        help="of --explain: gradient (the default), smoothgrad or grad_cam",
    )
    options = parser.parse_args(arguments)
    if options.top < 1:
        raise UsageError(f"--top={options.top} is not a number of classes; expected 1 or more")
    if options.method and not options.explain:
        raise UsageError(f"--method={options.method} is of --explain; add --explain=DIR")
    from flaxlab.predict.command import predict
    from flaxlab.run.load import load_stored

    predict(
        load_stored(options.run, options.step, options.model),
        options.pictures,
        options.top,
        options.invert,
        options.format,
        options.explain and options.explain.expanduser(),
        options.method or "gradient",
    )


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
