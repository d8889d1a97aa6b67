"""Reads and writes TFDS data sets without TensorFlow; no other module imports TFDS."""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from rich.progress import track

from flaxlab.data.catalog import Entry
from flaxlab.data.dataset import Split
from flaxlab.errors import UsageError

_READ_AT_ONCE = 1000


def read(folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
    """Decodes a prepared image classification data set.

    Args:
        folder: the folder of one version, with dataset_info.json in it.

    Returns:
        The training split, the test split and the class names.

    Raises:
        UsageError: the folder cannot be read, or it is of another kind.
    """
    try:
        builder = tfds.builder_from_directory(folder)
        features = builder.info.features
        splits = [_read_split(builder, name) for name in ("train", "test")]
        return splits[0], splits[1], tuple(features["label"].names)
    except Exception as error:  # readers of damaged files raise nearly anything
        raise UsageError(
            f"{folder} is no readable TFDS image data set ({type(error).__name__}: {error});"
            " remove it and prepare it again"
        ) from error


def write(entry: Entry, train: Split, test: Split, data_dir: Path) -> Path:
    """Writes a data set with the official features and version, as ArrayRecord files.

    The official builder is used, with the reading of the original files replaced: that part of
    it needs TensorFlow. Images are stored as PNG, without loss.

    Returns:
        The folder of the version that was written.
    """
    official = tfds.builder_cls(entry.name)

    def examples(split: Split, part: str) -> Iterator[tuple[int, dict[str, Any]]]:
        numbered = enumerate(zip(split.images, split.labels, strict=True))
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
    decoders = {"image": tfds.decode.SkipDecoding()}
    for record in _records(builder, name, decoders):
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
