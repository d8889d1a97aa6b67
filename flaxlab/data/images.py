"""Decodes pictures and brings them to the shape that a network takes."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps

from flaxlab.errors import UsageError

T = TypeVar("T")

SUFFIXES = (".png", ".jpg", ".jpeg")

_CROP_DRAWS = 10
_LOG_ASPECT = math.log(4 / 3)


def fit_image(image: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """Brings a picture of any size and mode to `shape` (H, W, C), uint8.

    Turns it upright according to its EXIF tag, converts it to grey (C = 1, ITU-R 601 luma) or RGB
    (C = 3) with transparency laid on white, crops its centre to the aspect ratio of H x W, and
    resizes it bilinearly with antialiasing. 16-bit grey is scaled to 8 bits first. A picture that
    already has the size keeps its pixels.
    """
    height, width, channels = shape
    image = _upright(image, channels)
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def stored_shape(image: Image.Image) -> tuple[int, int, int]:
    """Returns (H, W, C) of a picture, turned upright, before it is brought to a shape.

    C is 1 if no pixel has a colour, whatever the picture's mode.
    """
    width, height = _upright_size(image, image.getexif())
    image.draft(None, (1, 1))  # an eighth of a JPEG's size shows whether it has colours
    pixels = np.asarray(_upright(image, 3))
    return height, width, 3 if np.ptp(pixels, axis=-1).any() else 1


def declared_shape(image: Image.Image) -> tuple[int, int, int]:
    """Returns (H, W, C) of a picture, turned upright, by the header of its file alone.

    C is 1 if the file stores grey, with transparency or without, whatever its pixels show.
    """
    # `image.getexif` would decode a PNG, to look for EXIF data behind its pixels.
    width, height = _upright_size(image, Image.Image.getexif(image))
    return height, width, 1 if Image.getmodebase(image.mode) == "L" else 3


def _upright_size(image: Image.Image, exif: Image.Exif) -> tuple[int, int]:
    stored_on_its_side = exif.get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return image.size[::-1] if stored_on_its_side else image.size


def common_shape(shapes: Sequence[tuple[int, int, int]]) -> tuple[int, ...] | None:
    """Returns the shape of several pictures: (H, W, C), or (C,) if their sizes differ.

    C is the largest of theirs; None without pictures.
    """
    if not shapes:
        return None
    sizes, channels = {shape[:2] for shape in shapes}, max(shape[2] for shape in shapes)
    return (*sizes.pop(), channels) if len(sizes) == 1 else (channels,)


def from_array(pixels: np.ndarray) -> Image.Image:
    """Returns uint8 pixels (H, W, C) as a picture."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def random_resized_crop(
    image: Image.Image, shape: tuple[int, int, int], smallest: float, rng: np.random.Generator
) -> np.ndarray:
    """Cuts a random part out of a picture and brings it to `shape` (H, W, C), uint8.

    After Szegedy et al. (2015), "Going deeper with convolutions": the part's share of the area is
    uniform from `smallest` to 1, its aspect ratio log-uniform from 3/4 to 4/3. If ten draws in a
    row do not fit into the picture, the part is its centre, as in `fit_image`, which also defines
    how it is turned, converted and resized.

    Args:
        image: a picture of any size and mode.
        shape: shape of the result.
        smallest: smallest share of the area, above 0 and at most 1.
        rng: random generator.
    """
    height, width, channels = shape
    image = _upright(image, channels)
    for _ in range(_CROP_DRAWS):
        area = image.width * image.height * rng.uniform(smallest, 1.0)
        aspect = math.exp(rng.uniform(-_LOG_ASPECT, _LOG_ASPECT))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= image.width and 0 < down <= image.height:
            left = int(rng.integers(image.width - across + 1))
            top = int(rng.integers(image.height - down + 1))
            box = (left, top, left + across, top + down)
            resized = image.resize((width, height), Image.Resampling.BILINEAR, box)
            return np.asarray(resized).reshape(shape)
    return fit_image(image, shape)


def _upright(image: Image.Image, channels: int) -> Image.Image:
    """Turns and converts a picture; see `fit_image`."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits: Pillow would clip them, not scale them
        grey = np.asarray(image).astype(np.int64) // 257
        image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("L" if channels == 1 else "RGB")


def decode(content: bytes | Path, name: str, bring: Callable[[Image.Image], T]) -> T:
    """Decodes a PNG or JPEG file; several threads may do so at the same time.

    Args:
        content: bytes of the file; or its path, to read no more of it than `bring` needs.
        name: name of the picture, for error messages.
        bring: what to make of the picture, `fit_image` for example.

    Returns:
        What `bring` returns.

    Raises:
        UsageError: it is not a readable picture, or far too large (more pixels than twice
            Pillow's limit against decompression bombs).
    """
    file = content if isinstance(content, Path) else io.BytesIO(content)
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            return bring(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"{name} is not a readable PNG or JPEG picture ({error})") from error


def read_image(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Reads a PNG or JPEG file as uint8, brought to `shape` (H, W, C) by `fit_image`.

    Raises:
        UsageError: the file is not a readable picture; see `decode`.
    """
    return decode(path.read_bytes(), str(path), functools.partial(fit_image, shape=shape))
