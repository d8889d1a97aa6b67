"""Class folders of pictures as a data set, decoded at once or read lazily."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flaxlab.data.cache import Decoded, files_fingerprint, files_key, fingerprinted, through_cache
from flaxlab.data.dataset import Dataset, Split
from flaxlab.data.images import class_folders, decode, read_class_folders, stored_shape
from flaxlab.data.lazy import FileRecords, LazyImages
from flaxlab.data.splits import stratified_split
from flaxlab.errors import UsageError

# The test part of class folders is the same in every run.
_FIXED_SEED = 0
_TEST_FRACTION = 0.2

_LOOKED_AT = 12

_Listing = list[tuple[str, list[Path]]]


def load_folder(root: Path, shape: tuple[int, int, int], is_lazy: Callable[[int], bool]) -> Dataset:
    """Loads root/{train,test}/<class>/*, or root/<class>/* with a fifth of it as test split.

    Args:
        root: the folder.
        shape: (H, W, C) that the pictures are brought to.
        is_lazy: says of a number of decoded bytes whether to leave the pictures in their files.

    Raises:
        UsageError: there are no such folders, the classes of "train" and "test" differ, or a
            picture is damaged (lazy ones raise this when they are read).
    """
    parts = [root / "train", root / "test"]
    has_parts = all(part.is_dir() for part in parts)
    listings = [class_folders(part) for part in (parts if has_parts else [root])]
    names = [tuple(name for name, _ in listing) for listing in listings]
    if len(set(names)) > 1:
        raise UsageError(
            f"the class folders of {parts[0]} and {parts[1]} differ:"
            f" {', '.join(sorted(set(names[0]) ^ set(names[1])))}; give both the same"
        )
    paths = [path for listing in listings for _, paths in listing for path in paths]
    if is_lazy(len(paths) * math.prod(shape)):
        splits = _cut([_lazy(listing, shape) for listing in listings])
        fingerprint = files_fingerprint(root, paths, shape)
    else:

        def decode_all() -> Decoded:
            decoded = _cut([Split(*read_class_folders(listing, shape)) for listing in listings])
            return fingerprinted(*decoded, names[0])

        found = through_cache(f"folder-{files_key(paths, shape)}", decode_all)
        splits, fingerprint = (found.train, found.test), found.fingerprint
    return Dataset(
        name="folder",
        title=root.resolve().name,
        version="1.0.0",
        origin="class folders of images"
        + (
            ", split as they are." if has_parts else ", a fixed stratified fifth is the test split."
        ),
        fingerprint=fingerprint,
        class_names=names[0],
        train=splits[0],
        test=splits[1],
        stored_shape=_stored_shape(paths),
    )


def _cut(splits: list[Split]) -> tuple[Split, Split]:
    """Returns the two splits; from a single one, cuts a stratified part as the test split."""
    if len(splits) == 2:
        return splits[0], splits[1]
    train, test = stratified_split(splits[0].labels, _TEST_FRACTION, _FIXED_SEED)
    return splits[0].take(train), splits[0].take(test)


def _stored_shape(paths: list[Path]) -> tuple[int, ...] | None:
    """Looks at a few pictures from all over the folders; see `Dataset.stored_shape`."""
    shapes = []
    for path in paths[:: math.ceil(len(paths) / _LOOKED_AT)]:
        # Whoever needs a picture that cannot be read reports it.
        with contextlib.suppress(OSError, UsageError):
            shapes.append(tuple(decode(path.read_bytes(), str(path), stored_shape).tolist()))
    if not shapes:
        return None
    sizes, channels = {shape[:2] for shape in shapes}, max(shape[2] for shape in shapes)
    return (*sizes.pop(), channels) if len(sizes) == 1 else (channels,)


def _lazy(listing: _Listing, shape: tuple[int, int, int]) -> Split:
    records = FileRecords(tuple(str(path) for _, paths in listing for path in paths))
    labels = np.repeat(np.arange(len(listing), dtype=np.int32), [len(p) for _, p in listing])
    return Split(LazyImages(records, np.arange(len(records)), shape), labels)
