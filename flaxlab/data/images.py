"""How any picture is brought to the input of a network, and how class folders of them are read."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from flaxlab.errors import UsageError

SUFFIXES = (".png", ".jpg", ".jpeg")


def fit_image(image: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    """Brings a picture of any size and mode to `shape` (H, W, C), uint8.

    The rule: turn it upright as its EXIF tag says, convert it to grey (C = 1, ITU-R 601 luma)
    or RGB (C = 3) with transparency laid on white, crop its centre to the aspect of H x W, and
    resize bilinearly with antialiasing. 16-bit grey is scaled to 8 bits first. A picture that
    already has the size keeps its pixels.
    """
    height, width, channels = shape
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits: Pillow would clip them, not scale them
        grey = np.asarray(image).astype(np.int64) // 257
        image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def read_image(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Reads a PNG or JPEG file as uint8, brought to `shape` (H, W, C) by `fit_image`.

    Raises:
        UsageError: the file is no readable picture, or far too large to be one (more pixels
            than Pillow's limit against decompression bombs).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                return fit_image(image, shape)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"{path} is no readable PNG or JPEG picture ({error})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UsageError(f"{path} has too many pixels ({error})") from error


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
