"""Image sets of the Hugging Face Hub: Parquet files on the disk, with pictures inside.

What such files hold is described at https://huggingface.co/docs/datasets/about_dataset_features:
a column of {"bytes", "path"}, one of labels, and their names in the metadata of the schema.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet

from flaxlab.data.cache import files_digest, splits_through_cache
from flaxlab.data.dataset import Dataset, Split
from flaxlab.data.images import common_shape, declared_shape, decode, fit_image, stored_shape
from flaxlab.data.labels import to_class_names
from flaxlab.data.splits import cut_test_split, describe_test_split
from flaxlab.errors import UsageError

_BATCH = 1000  # rows that are read at a time
_SAMPLES = 12  # pictures that are opened to find out their stored shape
_HEADERS = 100  # pictures of a file whose headers are read


class _Columns(NamedTuple):
    """The columns that hold the pictures and their labels, and the names of the classes."""

    image: str
    label: str
    class_names: tuple[str, ...]


def load_parquet(root: Path, shape: tuple[int, int, int]) -> Dataset:
    """Loads the pictures in train*.parquet and test*.parquet, at any depth below a folder.

    Without files for a test split, those of a split called validation are taken, and without
    these a stratified fifth of the training split.

    Args:
        root: the folder, as the Hub's data sets are downloaded.
        shape: (H, W, C) of the images after `flaxlab.data.images.fit_image`.

    Raises:
        UsageError: there are no such files, they hold no pictures with labels or not the same
            classes, or a picture is damaged.
    """
    train, test = _splits(root)
    columns = _common_columns([*train, *test])
    key = f"parquet-{files_digest(root, [*train, *test], root.resolve(), shape, columns)}"

    def read() -> tuple[Split, Split]:
        whole = _read(train, columns, shape)
        return (whole, _read(test, columns, shape)) if test else cut_test_split(whole)

    first, second, fingerprint = splits_through_cache(key, read)
    return Dataset(
        name="parquet",
        title=root.resolve().name,
        version="1.0.0",
        origin=f"Parquet files with pictures, {describe_test_split(bool(test))}.",
        fingerprint=fingerprint,
        class_names=columns.class_names,
        train=first,
        test=second,
        stored_shape=_stored_shape(train[0], columns.image),
    )


def declared_shapes(root: Path) -> list[tuple[int, int, int]]:
    """Returns (H, W, C) of the first hundred pictures of each file, see `images.declared_shape`.

    Raises:
        UsageError: there are no such files, or one of them or a picture is damaged.
    """
    train, test = _splits(root)
    paths = [*train, *test]
    column = _common_columns(paths).image
    return [
        decode(content, f"picture {number} of {path.name}", declared_shape)
        for path in paths
        for number, content in enumerate(_first_pictures(path, column, _HEADERS))
    ]


def _splits(root: Path) -> tuple[list[Path], list[Path]]:
    """Returns the files of the training split, and those of the test split, which may be none."""
    train = _files(root, "train")
    if not train:
        raise UsageError(f"{root} holds no train*.parquet; expected an image set of the Hub's")
    return train, _files(root, "test") or _files(root, "validation")


def _files(root: Path, split: str) -> list[Path]:
    return sorted(root.rglob(f"{split}*.parquet"))


def _common_columns(paths: Sequence[Path]) -> _Columns:
    first, *others = paths
    columns = _find_columns(first)
    for path in others:
        found = _find_columns(path)
        if found[:2] != columns[:2]:
            raise UsageError(
                f"{path} has its pictures and labels in the columns {', '.join(found[:2])}, {first}"
                f" in {', '.join(columns[:2])}; expected the same in all files"
            )
        if found.class_names != columns.class_names:
            raise UsageError(
                f"{path} has other names of classes than {first}, or in another order; expected the"
                " same in all files"
            )
    return columns


def _find_columns(path: Path) -> _Columns:
    with _explain_damage(path):
        schema = pyarrow.parquet.read_schema(path)
    features = _features(schema)
    kinds: dict[str, list[str]] = {kind: [] for kind in ("Image", "ClassLabel")}
    for name in schema.names:
        feature = features.get(name)
        if isinstance(feature, dict) and feature.get("_type") in kinds:
            kinds[feature["_type"]].append(name)
    images, labels = kinds.values()
    if len(images) != 1 or not labels:
        raise UsageError(
            f"{path} has {len(images)} columns of images and {len(labels)} of class labels, as its"
            f" metadata says (columns: {', '.join(schema.names)}); expected one of images"
        )
    image, label = images[0], labels[0]
    for column, fits, expected in (
        (image, _holds_files(schema.field(image).type), 'pictures, {"bytes", "path"} each'),
        (label, pyarrow.types.is_integer(schema.field(label).type), "integers"),
    ):
        if not fits:
            kind = schema.field(column).type
            raise UsageError(f"the column {column} of {path} is {kind}; expected {expected}")
    names = to_class_names(features[label].get("names"), f"the column {label} of {path}")
    return _Columns(image, label, names)


def _features(schema: pyarrow.Schema) -> dict[str, Any]:
    """Returns what the metadata say about each column; {} if they say nothing that can be read."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _holds_files(kind: pyarrow.DataType) -> bool:
    index = kind.get_field_index("bytes") if pyarrow.types.is_struct(kind) else -1
    if index < 0:
        return False
    found = kind.field(index).type
    return pyarrow.types.is_binary(found) or pyarrow.types.is_large_binary(found)


def _stored_shape(path: Path, column: str) -> tuple[int, ...] | None:
    """Opens the first pictures of a file; see `Dataset.stored_shape`."""
    contents = _first_pictures(path, column, _SAMPLES)
    return common_shape([decode(content, path.name, stored_shape) for content in contents])


def _first_pictures(path: Path, column: str, count: int) -> list[bytes]:
    """Returns the bytes of the first pictures of a file, without those that lack them."""
    rows = next(_batches(path, count, [column]), [])
    found = ((row[column] or {}).get("bytes") for row in rows)
    return [content for content in found if content is not None]


def _read(paths: Sequence[Path], columns: _Columns, shape: tuple[int, int, int]) -> Split:
    images: list[np.ndarray] = []
    labels: list[int] = []
    for path in paths:
        for rows in _batches(path, _BATCH, [columns.image, columns.label]):
            for row in rows:
                name = f"picture {len(images)} of {path.name}"
                content, label = (row[columns.image] or {}).get("bytes"), row[columns.label]
                if content is None or label is None or label < 0:
                    raise UsageError(f"{name} in {path.parent} lacks its bytes or its label")
                if label >= len(columns.class_names):
                    raise UsageError(
                        f"{name} in {path.parent} has the label {label}; expected 0 to"
                        f" {len(columns.class_names) - 1}, since {columns.label} has"
                        f" {len(columns.class_names)} names"
                    )
                images.append(decode(content, name, lambda image: fit_image(image, shape)))
                labels.append(label)
    if not images:
        raise UsageError(f"{', '.join(map(str, paths))} contain no pictures; check the path")
    return Split(np.stack(images), np.array(labels, np.int32))


def _batches(path: Path, size: int, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows of a file, `size` at a time."""
    with _explain_damage(path):
        for rows in pyarrow.parquet.ParquetFile(path).iter_batches(size, columns=list(columns)):
            yield rows.to_pylist()


@contextlib.contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pyarrow.ArrowException) as error:
        raise UsageError(f"{path} is not a readable Parquet file ({error})") from error
