"""Reads and writes TFDS data sets without TensorFlow; no other module imports TFDS."""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from rich.progress import track

from flaxlab.data.catalog import Entry
from flaxlab.data.dataset import Split
from flaxlab.data.images import decode, fit_image
from flaxlab.errors import UsageError

_READ_AT_ONCE = 1000

_AS_STORED = {"image": tfds.decode.SkipDecoding()}


def read(folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
    """Decodes a prepared image classification data set.

    Args:
        folder: the folder of one version, with dataset_info.json in it.

    Returns:
        The training split, the test split and the class names.

    Raises:
        UsageError: the folder cannot be read, or it is of another kind.
    """
    with _readable(folder):
        builder = tfds.builder_from_directory(folder)
        features = builder.info.features
        splits = [_read_split(builder, name) for name in ("train", "test")]
        return splits[0], splits[1], tuple(features["label"].names)


class Prepared(NamedTuple):
    """Describes a prepared data set.

    Attributes:
        title: its name, with its config if it has one.
        class_names: for each label.
        examples: the examples of each split.
        random_access: whether its examples can be read in any order.
        stored_shape: (H, W, C) of the pictures, (C,) where their sizes differ, None where the
            number of channels does.
    """

    title: str
    class_names: tuple[str, ...]
    examples: dict[str, int]
    random_access: bool
    stored_shape: tuple[int, ...] | None


def describe(folder: Path) -> Prepared:
    """Describes a prepared image classification data set.

    Args:
        folder: see `read`.

    Raises:
        UsageError: it cannot be read, or it has no "image" with a "label".
    """
    with _readable(folder):
        info = tfds.builder_from_directory(folder).info
        features = info.features
        kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
        if not all(
            key in features and isinstance(features[key], kind) for key, kind in kinds.items()
        ):
            raise UsageError(
                f"{folder} is not an image classification set: expected the features image and"
                f" label (a class), found {_kinds(features)}"
            )
        label = features["label"]
        return Prepared(
            title=info.full_name.rsplit("/", 1)[0],
            class_names=tuple(label.names or map(str, range(label.num_classes))),
            examples={name: split.num_examples for name, split in info.splits.items()},
            random_access=info.file_format != tfds.core.FileFormat.TFRECORD,
            stored_shape=_without_unknown(features["image"].shape),
        )


def _without_unknown(shape: tuple[int | None, ...]) -> tuple[int, ...] | None:
    height, width, channels = shape
    if channels is None:
        return None
    channels = 1 if channels == 1 else 3  # transparency is laid on white
    return (channels,) if height is None or width is None else (height, width, channels)


def _kinds(features: Any) -> str:
    return ", ".join(f"{key} ({type(kind).__name__})" for key, kind in features.items())


def read_fitted(folder: Path, name: str, shape: tuple[int, int, int]) -> Split:
    """Decodes one split, with its pictures brought to `shape` (H, W, C) by `fit_image`.

    Raises:
        UsageError: it cannot be read.
    """
    bring = functools.partial(fit_image, shape=shape)
    with _readable(folder):
        builder = tfds.builder_from_directory(folder)
        count = builder.info.splits[name].num_examples
        images, labels = np.empty((count, *shape), np.uint8), np.empty(count, np.int32)
        for index, record in enumerate(_records(builder, name, _AS_STORED)):
            images[index] = decode(record["image"], f"picture {index} of {folder} ({name})", bring)
            labels[index] = record["label"]
    return Split(images, labels)


def has_labels(folder: Path, name: str) -> bool:
    """Says whether a split (not empty) has labels: TFDS writes -1 for an unknown one."""
    with _readable(folder):
        records = _records(tfds.builder_from_directory(folder), name, _AS_STORED)
        return int(next(records)["label"]) >= 0


class TfdsRecords:
    """The pictures of one split, read in any order: see `flaxlab.data.lazy.Records`."""

    def __init__(self, folder: Path, name: str) -> None:
        """Opens a split.

        Args:
            folder: see `read`.
            name: name of the split.

        Raises:
            UsageError: its files cannot be read in any order.
        """
        self._folder, self._name = folder, name
        found = describe(folder)
        if not found.random_access:
            raise UsageError(
                f"{folder} is prepared as TFRECORD files, which cannot be read in any order;"
                " prepare it with file_format='array_record', or use"
                " --config.data.placement=streamed, which decodes all of it into memory"
            )
        self._source = self._open()

    def _open(self) -> Any:
        with _readable(self._folder):
            builder = tfds.builder_from_directory(self._folder)
            return builder.as_data_source(self._name, decoders=_AS_STORED)

    def __len__(self) -> int:
        return len(self._source)

    def __getstate__(self) -> tuple[Path, str]:
        return self._folder, self._name  # open files stay in their process

    def __setstate__(self, state: tuple[Path, str]) -> None:
        self._folder, self._name = state
        self._source = self._open()

    def read(self, number: int) -> bytes:
        """Returns the PNG or JPEG file of an example."""
        with _readable(self._folder):
            return self._source[number]["image"]

    def name(self, number: int) -> str:
        """Returns what messages call a picture."""
        return f"picture {number} of {self._folder} ({self._name})"

    def labels(self) -> np.ndarray:
        """Reads all labels, int32 (N,): one pass over the files."""
        found = np.empty(len(self), np.int32)
        with _readable(self._folder):
            for start in track(range(0, len(self), _READ_AT_ONCE), "labels", transient=True):
                numbers = range(start, min(start + _READ_AT_ONCE, len(self)))
                records = self._source.__getitems__(numbers)
                found[numbers.start : numbers.stop] = [record["label"] for record in records]
        return found


def why_not_prepared(name: str, data_dir: Path) -> str:
    """Says in one line why "NAME" or "NAME/CONFIG" is not in the TFDS folder, and what to do."""
    dataset, _, config = name.partition("/")
    known = tfds.list_builders(with_community_datasets=False)
    if dataset not in known:
        near = difflib.get_close_matches(dataset, known, n=1)
        hint = f"; did you mean tfds:{near[0]}?" if near else ""
        return (
            f"TFDS knows no data set {dataset}, and none of that name is prepared in {data_dir}"
            f"{hint}"
        )
    configs = [each.name for each in tfds.builder_cls(dataset).BUILDER_CONFIGS]
    if config and config not in configs:
        return f"TFDS's {dataset} has no config {config}; expected one of {', '.join(configs)}"
    return (
        f"{name} is not prepared in {data_dir}; prepare it on a machine with TensorFlow and a"
        f" network, by tfds.builder({name!r}, file_format='array_record').download_and_prepare(),"
        " and give its TFDS folder by --config.data.data_dir"
    )


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turns the errors of a damaged data set into a `UsageError`."""
    try:
        yield
    except (UsageError, MemoryError):
        raise
    except Exception as error:  # readers of damaged files raise nearly anything
        raise UsageError(
            f"{folder} is not a readable TFDS image data set ({type(error).__name__}: {error});"
            " remove it and prepare it again"
        ) from error


def write(entry: Entry, train: Split, test: Split, data_dir: Path) -> Path:
    """Writes a data set with the official features and version, as ArrayRecord files.

    It uses the official builder and replaces only the reading of the original files, which needs
    TensorFlow. Images are stored as PNG, without loss.

    Returns:
        The folder of the version that was written.
    """
    official = tfds.builder_cls(entry.name)

    def examples(split: Split, part: str) -> Iterator[tuple[int, dict[str, Any]]]:
        numbered = enumerate(zip(np.asarray(split.images), split.labels, strict=True))
        title = f"{entry.title}: {part}"
        for index, (image, label) in track(numbered, title, len(split), transient=True):
            example = {"image": _png(image), "label": int(label)}
            if entry.name == "cifar10":
                example["id"] = f"{part}_{index:05d}"
            yield index, example

    with tfds.core.registered.skip_registration():

        class Builder(official):  # type: ignore[misc, valid-type]
            name = entry.name
            pkg_dir_path = None

            def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
                label = self.info.features["label"]
                if tuple(label.names) != entry.class_names:  # CIFAR-10 has them in a file
                    label.names = entry.class_names
                return {"train": examples(train, "train"), "test": examples(test, "test")}

    tfds.disable_progress_bar()
    builder = Builder(data_dir=data_dir, file_format="array_record")
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints a banner
        builder.download_and_prepare()
    return Path(builder.data_dir)


def _read_split(builder: Any, name: str) -> Split:
    images, labels = [], []
    for record in _records(builder, name, _AS_STORED):
        with Image.open(io.BytesIO(record["image"])) as image:
            pixels = np.asarray(image)
        images.append(pixels if pixels.ndim == 3 else pixels[..., None])
        labels.append(record["label"])
    return Split(np.stack(images), np.array(labels, np.int32))


def _records(builder: Any, name: str, decoders: Any) -> Iterator[dict[str, Any]]:
    if builder.info.file_format == tfds.core.FileFormat.TFRECORD:
        features = builder.info.features
        for file in builder.info.splits[name].filepaths:
            for record in _tfrecords(Path(file).read_bytes(), str(file)):
                yield features.deserialize_example_np(record, decoders=decoders)
    else:
        source = builder.as_data_source(name, decoders=decoders)
        for start in range(0, len(source), _READ_AT_ONCE):  # one by one takes twice as long
            yield from source.__getitems__(range(start, min(start + _READ_AT_ONCE, len(source))))


def _tfrecords(content: bytes, name: str) -> Iterator[bytes]:
    """Splits a TFRecord file: each record is length (8 bytes), its CRC (4), data, their CRC (4)."""
    position = 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        start = position + 12
        position = start + length + 4
        if position > len(content):
            raise ValueError(f"{name} is truncated")
        yield content[start : start + length]


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()
