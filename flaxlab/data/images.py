"""Brings pictures to the input of a network, and reads class folders of them."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from flaxlab.errors import UsageError

SUFFIXES = (".png", ".jpg", ".jpeg")

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

_CROP_DRAWS = 10
_LOG_ASPECT = math.log(4 / 3)


def fit_image(image: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """Brings a picture of any size and mode to `shape` (H, W, C), uint8.

    The rule: turn it upright as its EXIF tag says, convert it to grey (C = 1, ITU-R 601 luma)
    or RGB (C = 3) with transparency laid on white, crop its centre to the aspect of H x W, and
    resize bilinearly with antialiasing. 16-bit grey is scaled to 8 bits first. A picture that
    already has the size keeps its pixels.
    """
    height, width, channels = shape
    image = _upright(image, channels)
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def stored_shape(image: Image.Image) -> np.ndarray:
    """Returns (H, W, C) of a picture before it is brought to a shape, int (3,).

    Upright; C is 1 if no pixel has a colour, whatever the mode says.
    """
    width, height = image.size
    if image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:  # lies on its side
        width, height = height, width
    image.draft(None, (1, 1))  # an eighth of a JPEG's size shows whether it has colours
    pixels = np.asarray(_upright(image, 3))
    return np.array([height, width, 3 if np.ptp(pixels, axis=-1).any() else 1])


def from_array(pixels: np.ndarray) -> Image.Image:
    """Returns uint8 pixels (H, W, C) as a picture."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def random_resized_crop(
    image: Image.Image, shape: tuple[int, int, int], smallest: float, rng: np.random.Generator
) -> np.ndarray:
    """Cuts a random part out of a picture and brings it to `shape` (H, W, C), uint8.

    After Szegedy et al. (2015), "Going deeper with convolutions": the part has a share of the
    picture's area drawn evenly from `smallest` to 1, and an aspect between 3/4 and 4/3, drawn
    evenly on a logarithmic scale. If ten draws in a row do not fit into the picture, the part is
    its centre, as in `fit_image`, which also says how it is turned, converted and resized.

    Args:
        image: a picture of any size and mode.
        shape: shape of the result.
        smallest: share of the area, above 0 and at most 1.
        rng: what is drawn from.
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
    """Turns and converts as `fit_image` says."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits: Pillow would clip them, not scale them
        grey = np.asarray(image).astype(np.int64) // 257
        image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("L" if channels == 1 else "RGB")


def decode(content: bytes, name: str, bring: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """Decodes a PNG or JPEG file; several threads may do so at a time.

    Args:
        content: bytes of the file.
        name: name of the picture, for messages.
        bring: brings the picture to an array, `fit_image` for example.

    Returns:
        What `bring` returns: uint8 (H, W, C).

    Raises:
        UsageError: it is not a readable picture, or far too large (more pixels than
            Pillow's limit against decompression bombs).
    """
    # Not by `Image.open`: it warns of too many pixels, and warnings affect the whole process.
    kind = PngImageFile if content.startswith(_PNG_MAGIC) else JpegImageFile
    try:
        with kind(io.BytesIO(content)) as image:
            pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
            if limit is not None and pixels > limit:
                raise UsageError(f"{name} has too many pixels ({pixels:,}; at most {limit:,})")
            return bring(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"{name} is not a readable PNG or JPEG picture ({error})") from error


def read_image(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Reads a PNG or JPEG file as uint8, brought to `shape` (H, W, C) by `fit_image`.

    Raises:
        UsageError: the file cannot be read; see `decode`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} is not a readable PNG or JPEG picture ({error})") from error
    return decode(content, str(path), functools.partial(fit_image, shape=shape))


def class_folders(root: Path) -> list[tuple[str, list[Path]]]:
    """Lists (class name, picture files) of each folder in `root`, both sorted by name.

    Raises:
        UsageError: there is no such folder, no class folder in it, or an empty one.
    """
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}; expected one with a folder for each class")
    found = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if folder.name.startswith("."):
            continue
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if not files:
            raise UsageError(f"class folder {folder} holds no PNG or JPEG files; fill or remove it")
        found.append((folder.name, files))
    if not found:
        raise UsageError(f"{root} holds no class folders; expected one folder for each class")
    return found


def read_class_folders(
    folders: list[tuple[str, list[Path]]], shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Reads what `class_folders` listed.

    Returns:
        images uint8 (N, *shape) and labels int32 (N,), the index of the class in `folders`.
    """
    files = [(path, label) for label, (_, paths) in enumerate(folders) for path in paths]
    images = np.empty((len(files), *shape), np.uint8)
    for index, (path, _) in enumerate(files):
        images[index] = read_image(path, shape)
    return images, np.array([label for _, label in files], np.int32)
