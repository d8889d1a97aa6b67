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
from rich.progress import track

from flaxlab.data.catalog import Entry
from flaxlab.data.dataset import Split
from flaxlab.data.images import decode, fit_image, from_array
from flaxlab.errors import UsageError

_READ_AT_ONCE = 1000

_AS_STORED = {"image": tfds.decode.SkipDecoding()}


class Prepared(NamedTuple):
    """Describes a prepared data set.

    Attributes:
        title: its name, with its config if it has one.
        class_names: name of each label.
        examples: number of examples in each split.
        stored_shape: (H, W, C) of the pictures, (C,) if their sizes differ, None if the number of
            channels does.
    """

    title: str
    class_names: tuple[str, ...]
    examples: dict[str, int]
    stored_shape: tuple[int, ...] | None


def describe(folder: Path) -> Prepared:
    """Describes a prepared image classification data set.

    Args:
        folder: the folder of one version, with dataset_info.json in it.

    Raises:
        UsageError: it cannot be read, or it has no "image" with a "label".
    """
    with _readable(folder):
        info = tfds.builder_from_directory(folder).info
        features = info.features
        kinds = dict(features.items())
        image, label = kinds.get("image"), kinds.get("label")
        if not (
            isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel)
        ):
            found = ", ".join(f"{key} ({type(kind).__name__})" for key, kind in kinds.items())
            raise UsageError(
                f"{folder} is not an image classification set: expected the features image and"
                f" label (a class), found {found}"
            )
        return Prepared(
            title=info.full_name.rsplit("/", 1)[0],
            class_names=tuple(label.names or map(str, range(label.num_classes))),
            examples={name: split.num_examples for name, split in info.splits.items()},
            stored_shape=_without_unknown(image.shape),
        )


def _without_unknown(shape: tuple[int | None, ...]) -> tuple[int, ...] | None:
    height, width, channels = shape
    if channels is None:
        return None
    channels = 1 if channels == 1 else 3  # transparency is laid on white
    return (channels,) if height is None or width is None else (height, width, channels)


def read(folder: Path, name: str, shape: tuple[int, int, int]) -> Split:
    """Decodes one split, with its pictures brought to `shape` (H, W, C) by `fit_image`.

    Args:
        folder: see `describe`.
        name: name of the split.
        shape: shape of the images.

    Raises:
        UsageError: it cannot be read.
    """
    bring = functools.partial(fit_image, shape=shape)
    with _readable(folder):
        builder = tfds.builder_from_directory(folder)
        count = builder.info.splits[name].num_examples
        images, labels = np.empty((count, *shape), np.uint8), np.empty(count, np.int32)
        for index, record in enumerate(_records(builder, name)):
            images[index] = decode(record["image"], _picture(index, folder, name), bring)
            labels[index] = record["label"]
    return Split(images, labels)


def _picture(number: int, folder: Path, name: str) -> str:
    return f"picture {number} of {folder} ({name})"


def has_labels(folder: Path, name: str) -> bool:
    """Checks whether a split (not empty) has labels: TFDS writes -1 for an unknown one."""
    with _readable(folder):
        return int(next(_records(tfds.builder_from_directory(folder), name))["label"]) >= 0


class TfdsRecords:
    """The pictures of one split, which can be read in any order and sent to other processes."""

    def __init__(self, folder: Path, name: str) -> None:
        """Opens a split.

        Args:
            folder: see `describe`.
            name: name of the split.

        Raises:
            UsageError: its files cannot be read in any order.
        """
        self.__setstate__((folder, name))

    def __len__(self) -> int:
        return len(self._source)

    def __getstate__(self) -> tuple[Path, str]:
        return self._folder, self._name  # open files cannot be sent to another process

    def __setstate__(self, state: tuple[Path, str]) -> None:
        self._folder, self._name = state
        with _readable(self._folder):
            builder = tfds.builder_from_directory(self._folder)
            if builder.info.file_format == tfds.core.FileFormat.TFRECORD:
                raise UsageError(
                    f"{self._folder} is prepared as TFRECORD files, which cannot be read in any"
                    " order; prepare it with file_format='array_record', or use"
                    " --config.data.placement=streamed, which decodes all of it into memory"
                )
            self._source = builder.as_data_source(self._name, decoders=_AS_STORED)

    def read(self, number: int) -> tuple[bytes, str]:
        """Returns the PNG or JPEG file of an example, and its name for error messages."""
        with _readable(self._folder):
            return self._source[number]["image"], _picture(number, self._folder, self._name)

    def labels(self) -> np.ndarray:
        """Reads all labels, int32 (N,), in one pass over the files."""
        with _readable(self._folder):
            records = _records(tfds.builder_from_directory(self._folder), self._name)
            shown = track(records, "labels", len(self), transient=True)
            return np.fromiter((record["label"] for record in shown), np.int32, len(self))


def why_not_prepared(name: str, data_dir: Path) -> str:
    """Returns why "NAME" or "NAME/CONFIG" is not in the TFDS folder, and what to do about it."""
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


def write(entry: Entry, train: Split, test: Split, data_dir: Path) -> Path:
    """Writes a data set with the official features and version, as ArrayRecord files.

    Uses the official builder and replaces only its reading of the original files, which needs
    TensorFlow. Images are stored as PNG, without loss.

    Returns:
        The folder of the version that was written.
    """
    official = tfds.builder_cls(entry.name)

    def examples(split: Split, part: str) -> Iterator[tuple[int, dict[str, Any]]]:
        numbered = enumerate(zip(np.asarray(split.images), split.labels, strict=True))
        title = f"{entry.title}: {part}"
        for index, (image, label) in track(numbered, title, len(split), transient=True):
            png = io.BytesIO()
            from_array(image).save(png, "PNG")
            example = {"image": png.getvalue(), "label": int(label)}
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


def _records(builder: Any, name: str) -> Iterator[dict[str, Any]]:
    if builder.info.file_format == tfds.core.FileFormat.TFRECORD:
        features = builder.info.features
        for file in builder.info.splits[name].filepaths:
            for record in _tfrecords(Path(file).read_bytes(), str(file)):
                yield features.deserialize_example_np(record, decoders=_AS_STORED)
    else:
        source = builder.as_data_source(name, decoders=_AS_STORED)
        for start in range(0, len(source), _READ_AT_ONCE):  # one by one takes twice as long
            yield from source.__getitems__(range(start, min(start + _READ_AT_ONCE, len(source))))


def _tfrecords(content: bytes, name: str) -> Iterator[bytes]:
    """Splits a TFRECORD file: each record is length (8 bytes), its CRC (4), data, their CRC (4)."""
    position = 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        start = position + 12
        position = start + length + 4
        if position > len(content):
            raise ValueError(f"{name} is truncated")
        yield content[start : start + length]
