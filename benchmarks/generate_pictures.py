"""Writes class folders of generated JPEG pictures, to try what large data sets need.

A class is an angle of stripes and a colour: a network learns it in an epoch or two. The pictures
differ in size, like photographs, and are the same on every machine but for the JPEG encoder.
"""

from __future__ import annotations

import colorsys
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from flaxlab.command_line import CommandParser, positive_number, run_command
from flaxlab.errors import UsageError

_EXAMPLES = """examples:
  python -m benchmarks.generate_pictures data/stripes --classes=10 --images=100
  python -m flaxlab.main --config=experiments/imagenet/alexnet.py \\
      --config.data.name=folder --config.data.folder=data/stripes --config.train.epochs=2
"""

_TEST_SHARE = 5  # one in so many


def draw_picture(label: int, classes: int, number: int, size: int) -> np.ndarray:
    """Draws one picture.

    Args:
        label: its class.
        classes: number of them.
        number: number of the picture in its class, which decides what is random about it.
        size: its shorter side in pixels; the longer one is up to half as long again.

    Returns:
        uint8 (H, W, 3).
    """
    rng = np.random.default_rng((label, number))
    longer = size + int(rng.integers(size // 2 + 1))
    height, width = (size, longer) if rng.random() < 0.5 else (longer, size)
    down, across = np.mgrid[:height, :width] / size
    angle = math.pi * label / classes + rng.normal(0, 0.05)
    waves = 6 * (math.cos(angle) * across + math.sin(angle) * down) + rng.random()
    bright = 0.5 + 0.4 * np.sin(2 * math.pi * waves)
    colour = colorsys.hsv_to_rgb(label / classes, 0.6, 1.0)
    pixels = bright[..., None] * np.array(colour) + rng.normal(0, 0.1, (height, width, 1))
    return (np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def write_folders(root: Path, classes: int, images: int, size: int) -> None:
    """Writes root/train/<class>/* and, of a fifth as many, root/test/<class>/*.

    Args:
        root: made; nothing may be there.
        classes: number of them.
        images: number of images of each class in the training split.
        size: see `draw_picture`.

    Raises:
        UsageError: `root` is not empty.
    """
    if root.exists() and any(root.iterdir()):
        raise UsageError(f"{root} is not empty; name a new folder")
    digits = len(str(classes - 1))
    for label in track(range(classes), f"writing {root}", transient=True):
        for number in range(images + math.ceil(images / _TEST_SHARE)):
            split = "train" if number < images else "test"
            folder = root / split / f"class_{label:0{digits}}"
            folder.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(draw_picture(label, classes, number, size))
            picture.save(folder / f"{number:06}.jpg", quality=85)


def main(arguments: Sequence[str]) -> None:
    """Writes the pictures.

    Raises:
        UsageError: an option is wrong, or the folder is not empty.
    """
    parser = CommandParser(
        prog="python -m benchmarks.generate_pictures",
        description=__doc__,
        epilog=_EXAMPLES,
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="new folder")
    parser.add_argument("--classes", type=positive_number, default=10, help="default 10")
    parser.add_argument(
        "--images", type=positive_number, default=100, help="of a class; default 100"
    )
    parser.add_argument(
        "--size", type=positive_number, default=224, help="shorter side; default 224"
    )
    options = parser.parse_args(arguments)
    write_folders(options.folder.expanduser(), options.classes, options.images, options.size)


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
