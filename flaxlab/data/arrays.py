"""Arrays of one's own as a data set: given in Python, or kept in an .npz file."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxlab.data.cache import arrays_fingerprint, files_digest, splits_through_cache
from flaxlab.data.dataset import Dataset, Split
from flaxlab.data.images import fit_image, from_array
from flaxlab.data.labels import to_array, to_class_names, to_labels
from flaxlab.errors import UsageError

Arrays = tuple[Any, Any, Any, Any]  # training images and labels, test images and labels

KEYS = ("x_train", "y_train", "x_test", "y_test")  # as in the files of Keras's data sets
_NAMES = "class_names"

NOT_KEPT = (
    "the images of data.name=arrays are only in the memory of the Python process that has them;"
    " save them by np.savez(FILE, x_train=..., y_train=..., x_test=..., y_test=...) and use"
    " data.name=npz with data.file=FILE"
)


def from_arrays(data: Arrays, class_names: Sequence[str] | None = None) -> Dataset:
    """Returns copies of arrays as a data set, whose fingerprint changes with any pixel or label.

    Args:
        data: training images and labels, test images and labels, see `to_pixels` and
            `flaxlab.data.labels.to_labels`.
        class_names: name of each label, see `flaxlab.data.labels.to_class_names`; None: the
            numbers.

    Raises:
        UsageError: the arrays are not images and labels, or do not fit each other.
    """
    if not isinstance(data, tuple | list) or len(data) != len(KEYS):
        raise UsageError("data is not a tuple (x_train, y_train, x_test, y_test)")
    (train, stored), (test, _) = (_split(data[i], data[i + 1], KEYS[i]) for i in (0, 2))
    # uint8 images are still the caller's, who may change them.
    train, test = (Split(np.array(split.images), split.labels) for split in (train, test))
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UsageError(
            f"the training images are {train.images.shape[1:]}, the test images"
            f" {test.images.shape[1:]}; bring them to one shape"
        )
    arrays = [np.asarray(a) for split in (train, test) for a in (split.images, split.labels)]
    return Dataset(
        name="arrays",
        title="arrays",
        version="1.0.0",
        origin=f"arrays given in Python, {stored}.",
        fingerprint=arrays_fingerprint(arrays),
        class_names=_class_names((train.labels, test.labels), class_names),
        train=train,
        test=test,
    )


def load_npz(path: Path, shape: tuple[int, int, int]) -> Dataset:
    """Loads the arrays x_train, y_train, x_test and y_test of a file that `np.savez` wrote.

    Args:
        path: the file. An array `class_names` in it names the labels.
        shape: (H, W, C) of the images after `flaxlab.data.images.fit_image`, which leaves those
            that have it as they are.

    Raises:
        UsageError: there is no such file, or its arrays are not images and labels.
    """
    stored_shape = shape_in_npz(path)
    with _explain_damage(path), np.load(path, allow_pickle=False) as file:

        def decode() -> tuple[Split, Split]:
            with _explain_damage(path):
                splits = [_split(file[KEYS[i]], file[KEYS[i + 1]], KEYS[i])[0] for i in (0, 2)]
            train, test = (Split(_fitted(split.images, shape), split.labels) for split in splits)
            return train, test

        key = f"npz-{files_digest(path.parent, [path], path.resolve(), shape)}"
        train, test, fingerprint = splits_through_cache(key, decode)
        given = file.get(_NAMES)
    return Dataset(
        name="npz",
        title=path.stem,
        version="1.0.0",
        origin=f"arrays in {path.name}.",
        fingerprint=fingerprint,
        class_names=_class_names((train.labels, test.labels), given),
        train=train,
        test=test,
        stored_shape=stored_shape,
    )


def shape_in_npz(path: Path) -> tuple[int, int, int]:
    """Returns the shape (H, W, C) of the training images in a file, without reading them.

    Raises:
        UsageError: there is no such file, or not all four arrays are in it, or these are no images.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}; expected one that np.savez wrote")
    if not zipfile.is_zipfile(path):
        raise UsageError(f"{path} is not an .npz file of arrays; write it by np.savez")
    with _explain_damage(path), zipfile.ZipFile(path) as archive:
        missing = [key for key in KEYS if f"{key}.npy" not in archive.namelist()]
        if missing:
            raise UsageError(
                f"{path} has no array {', '.join(missing)}; expected {', '.join(KEYS)}"
            )
        with archive.open(f"{KEYS[0]}.npy") as member:
            version, form = np.lib.format.read_magic(member), np.lib.format
            one = version == (1, 0)  # which NumPy itself writes, unless the header is long
            read = form.read_array_header_1_0 if one else form.read_array_header_2_0
            shape = read(member)[0]
    _require_images(shape, KEYS[0])
    return shape[1], shape[2], shape[3] if len(shape) == 4 else 1


def to_pixels(images: Any, name: str) -> tuple[np.ndarray, str]:
    """Returns images as uint8 (N, H, W, C), and in words what has become of their values.

    Args:
        images: (N, H, W) or (N, H, W, C), C 1 or 3: uint8, which stay as they are, or floats in
            [0, 1], which are rounded to 256 levels.
        name: what the images are, for messages.

    Raises:
        UsageError: they have another shape, dtype or range.
    """
    found = to_array(images, name)
    _require_images(found.shape, name)
    if found.ndim == 3:
        found = found[..., None]
    if found.dtype == np.uint8:
        return found, "uint8"
    if not np.issubdtype(found.dtype, np.floating):
        raise UsageError(
            f"{name} has the dtype {found.dtype}; expected uint8, or floats in [0, 1]; if its"
            f" values are from 0 to 255, give {name}.astype(np.uint8)"
        )
    low, high = found.min(), found.max()
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise UsageError(
            f"{name} has values from {low:g} to {high:g}; expected uint8, or floats in [0, 1]"
        )
    return np.rint(found * 255).astype(np.uint8), f"{found.dtype} in [0, 1] rounded to 256 levels"


def _require_images(shape: tuple[int, ...], name: str) -> None:
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)) or 0 in shape:
        raise UsageError(
            f"{name} is an array of shape {shape}; expected images (N, H, W), or (N, H, W, C) with"
            " 1 or 3 channels"
        )


def _split(images: Any, labels: Any, name: str) -> tuple[Split, str]:
    pixels, stored = to_pixels(images, name)
    return Split(pixels, to_labels(labels, len(pixels), name.replace("x", "y", 1))), stored


def _class_names(labels: Sequence[np.ndarray], given: Any) -> tuple[str, ...]:
    classes = 1 + max(int(each.max()) for each in labels)
    if given is None and classes < 2:
        raise UsageError("all labels are 0; expected at least two classes")
    names = tuple(map(str, range(classes))) if given is None else to_class_names(given, _NAMES)
    if len(names) < classes:
        raise UsageError(
            f"{_NAMES} has {len(names)} names, but the labels go up to {classes - 1}; give"
            f" {classes} names"
        )
    return names


def _fitted(images: Any, shape: tuple[int, int, int]) -> np.ndarray:
    if images.shape[1:] == shape:
        return np.asarray(images)
    return np.stack([fit_image(from_array(image), shape) for image in images])


@contextlib.contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path} is not a readable .npz file of arrays ({error}); write it by np.savez"
        ) from error
