"""Class folders of pictures as a data set, decoded at once or read lazily."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flaxlab.data.cache import files_digest, lazy_fingerprint, splits_through_cache
from flaxlab.data.dataset import Dataset, Split
from flaxlab.data.images import SUFFIXES, common_shape, declared_shape, decode, stored_shape
from flaxlab.data.lazy import LazyImages, read_file
from flaxlab.data.splits import cut_test_split, describe_test_split
from flaxlab.errors import UsageError

Listing = list[tuple[str, list[Path]]]  # class folders: name and picture files

_SAMPLES = 12  # pictures that are opened to find out their stored shape
_HEADERS = 100  # pictures whose headers are read


def load_folder(root: Path, shape: tuple[int, int, int], is_lazy: Callable[[int], bool]) -> Dataset:
    """Loads root/{train,test}/<class>/*, or root/<class>/* with a fifth of it as the test split.

    Args:
        root: the folder.
        shape: (H, W, C) of the images after `flaxlab.data.images.fit_image`.
        is_lazy: (number of decoded bytes) -> whether to leave the pictures in their files.

    Raises:
        UsageError: there are no such folders, the classes of "train" and "test" differ, or a
            picture is damaged (if lazy, this is raised when it is read).
    """
    parts = _parts(root)
    has_parts = len(parts) > 1
    listings = [class_folders(part) for part in parts]
    names = [tuple(name for name, _ in listing) for listing in listings]
    if len(set(names)) > 1:
        raise UsageError(
            f"the class folders of {parts[0]} and {parts[1]} differ:"
            f" {', '.join(sorted(set(names[0]) ^ set(names[1])))}; give both the same"
        )
    paths = [path for listing in listings for _, paths in listing for path in paths]
    lazy = [lazy_split(listing, shape) for listing in listings]
    train, test = lazy if has_parts else cut_test_split(lazy[0])
    if is_lazy(len(paths) * math.prod(shape)):
        fingerprint = lazy_fingerprint(root, paths, shape)
    else:
        key = f"folder-{files_digest(root, paths, root.resolve(), shape)}"
        train, test, fingerprint = splits_through_cache(key, lambda: (train, test))
    return Dataset(
        name="folder",
        title=root.resolve().name,
        version="1.0.0",
        origin=f"class folders of images, {describe_test_split(has_parts)}.",
        fingerprint=fingerprint,
        class_names=names[0],
        train=train,
        test=test,
        stored_shape=_stored_shape(paths),
    )


def declared_shapes(root: Path) -> list[tuple[int, int, int]]:
    """Returns (H, W, C) of up to a hundred pictures of the folders, see `images.declared_shape`.

    Of more they are drawn at random, the same each time: kinds of pictures may take turns.

    Raises:
        UsageError: there are no class folders, or a picture is damaged.
    """
    listed = [each for part in _parts(root) for each in _class_folders(part)]
    # Names, not paths, which would take several times as long: a suite asks this for every arm.
    places = [(folder, name) for folder, names in listed for name in names]
    chosen = sorted(np.random.default_rng(0).permutation(len(places))[:_HEADERS])
    paths = [places[number][0] / places[number][1] for number in chosen]
    return [decode(path, str(path), declared_shape) for path in paths]


def _parts(root: Path) -> list[Path]:
    parts = [root / "train", root / "test"]
    return parts if all(part.is_dir() for part in parts) else [root]


def class_folders(root: Path) -> Listing:
    """Lists (class name, picture files) of each folder in `root`, both sorted by name.

    Raises:
        UsageError: there is no such folder, no class folder in it, or an empty one.
    """
    return [
        (folder.name, [folder / name for name in names]) for folder, names in _class_folders(root)
    ]


def _class_folders(root: Path) -> list[tuple[Path, list[str]]]:
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}; expected one with a folder for each class")
    found = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if folder.name.startswith("."):
            continue
        names = sorted(
            name for name in os.listdir(folder) if os.path.splitext(name)[1].lower() in SUFFIXES
        )
        if not names:
            raise UsageError(f"class folder {folder} holds no PNG or JPEG files; fill or remove it")
        found.append((folder, names))
    if not found:
        raise UsageError(f"{root} holds no class folders; expected one folder for each class")
    return found


def lazy_split(listing: Listing, shape: tuple[int, int, int]) -> Split:
    """Returns listed pictures, brought to `shape`, with the index of their class as labels."""
    paths = [str(path) for _, paths in listing for path in paths]
    labels = np.repeat(np.arange(len(listing), dtype=np.int32), [len(p) for _, p in listing])
    read = functools.partial(read_file, paths)
    return Split(LazyImages(read, np.arange(len(paths)), shape), labels)


def _stored_shape(paths: list[Path]) -> tuple[int, ...] | None:
    """Opens a few pictures from all over the folders; see `Dataset.stored_shape`."""
    shapes = []
    for path in paths[:: math.ceil(len(paths) / _SAMPLES)]:
        # A picture that cannot be read is reported where it is needed.
        with contextlib.suppress(OSError, UsageError):
            shapes.append(decode(path.read_bytes(), str(path), stored_shape))
    return common_shape(shapes)
