"""Loads any image classification set that TFDS has prepared: `config.data.name = "tfds:NAME"`.

Data sets are found by their folders, so your own sets, which TFDS does not know, work as well.
Nothing is downloaded, and nothing here needs TensorFlow.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flaxlab.data.cache import (
    files_digest,
    lazy_fingerprint,
    splits_through_cache,
    through_cache,
)
from flaxlab.data.dataset import Dataset, Split
from flaxlab.data.lazy import LazyImages
from flaxlab.errors import UsageError

PREFIX = "tfds:"

_INFO = "dataset_info.json"

_log = logging.getLogger(__name__)


def load_tfds_set(
    name: str, data_dir: Path, shape: tuple[int, int, int], is_lazy: Callable[[int], bool]
) -> Dataset:
    """Loads a prepared data set.

    Args:
        name: "tfds:NAME" or "tfds:NAME/CONFIG". Without a config, only one may be prepared.
        data_dir: the TFDS folder.
        shape: (H, W, C) of the images after `flaxlab.data.images.fit_image`.
        is_lazy: (number of decoded bytes) -> whether to leave the pictures in their files.

    Returns:
        The data set in its newest prepared version. Its test split is TFDS's "test", or, if
        there is none or it has no labels (as in ImageNet), "validation".

    Raises:
        UsageError: it is unknown, not prepared, not an image classification set, damaged, without
            a split to test on, or lazy and not prepared as ArrayRecord files.
    """
    folder = find_prepared(name.removeprefix(PREFIX), data_dir)
    # Imported here: TFDS takes seconds, which other data should not cost.
    from flaxlab.data import tfds_store

    found = tfds_store.describe(folder)
    parts = "train", _test_split(folder, found.examples)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if is_lazy(sum(found.examples[part] for part in parts) * math.prod(shape)):
        train, test = (_lazy(folder, part, shape) for part in parts)
        fingerprint = lazy_fingerprint(folder, files, shape)
    else:
        train, test, fingerprint = splits_through_cache(
            f"tfds-{files_digest(folder, files, folder.resolve(), shape, parts)}",
            lambda: decode_prepared(folder, parts, shape),
        )
    return Dataset(
        name=name,
        title=found.title,
        version=folder.name,
        origin=f"TFDS {found.title} {folder.name}, prepared by TFDS; {parts[1]} is the test split.",
        fingerprint=fingerprint,
        class_names=found.class_names,
        train=train,
        test=test,
        stored_shape=found.stored_shape,
    )


def shape_in_tfds(name: str, data_dir: Path) -> tuple[int, int, int]:
    """Returns the shape (H, W, C) that TFDS states for the pictures of a prepared data set.

    Args:
        name: "tfds:NAME" or "tfds:NAME/CONFIG".
        data_dir: the TFDS folder.

    Raises:
        UsageError: it cannot be loaded, see `load_tfds_set`, or TFDS states no shape.
    """
    folder = find_prepared(name.removeprefix(PREFIX), data_dir)
    from flaxlab.data import tfds_store

    stated = tfds_store.describe(folder).stored_shape
    if stated is None or len(stated) != 3:
        raise UsageError(
            f"TFDS states no size that all pictures of {name} have; set the shape that they are"
            ' brought to, for example --config.data.image_shape="(224, 224, 3)"'
        )
    height, width, channels = stated
    return height, width, channels


def tfds_folder(data_dir: str | None) -> Path:
    """Returns `data_dir`, else $TFDS_DATA_DIR, else TFDS's default, ~/tensorflow_datasets."""
    given = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(given).expanduser()


def decode_prepared(
    folder: Path, parts: tuple[str, str], shape: tuple[int, int, int]
) -> tuple[Split, Split]:
    """Decodes two splits of a prepared data set; see `flaxlab.data.tfds_store.read`."""
    from flaxlab.data import tfds_store

    _log.info("decoding %s once; later starts read the decoded images", folder)
    train, test = (tfds_store.read(folder, part, shape) for part in parts)
    return train, test


def find_prepared(name: str, data_dir: Path) -> Path:
    """Returns the folder of the newest prepared version of "NAME" or "NAME/CONFIG".

    Raises:
        UsageError: it is not prepared, or several of its configs are and none is named.
    """
    newest = prepared_folder(name, data_dir)
    if newest is None and "/" not in name:
        configs = sorted(path.name for path in (data_dir / name).glob("*") if path.is_dir())
        folders = {each: prepared_folder(f"{name}/{each}", data_dir) for each in configs}
        prepared = {config: folder for config, folder in folders.items() if folder}
        if len(prepared) > 1:
            choices = ", ".join(f"{PREFIX}{name}/{config}" for config in prepared)
            raise UsageError(f"several configs of {name} are prepared: give one of {choices}")
        newest = next(iter(prepared.values()), None)
    if newest is None:
        from flaxlab.data import tfds_store

        raise UsageError(tfds_store.why_not_prepared(name, data_dir))
    return newest


def prepared_folder(name: str, data_dir: Path) -> Path | None:
    """Returns the newest version of "NAME" or "NAME/CONFIG" that TFDS has prepared, if any."""
    found = [path.parent for path in (data_dir / name).glob(f"*/{_INFO}")]
    versions = [path for path in found if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return max(versions, key=lambda path: [*map(int, path.name.split("."))], default=None)


def _test_split(folder: Path, examples: dict[str, int]) -> str:
    from flaxlab.data import tfds_store

    if "train" in examples:
        for part in ("test", "validation"):
            if examples.get(part) and tfds_store.has_labels(folder, part):
                return part
    raise UsageError(
        f"{folder} has the splits {', '.join(examples) or 'none'}; expected train, and test or"
        " validation with labels"
    )


def _lazy(folder: Path, part: str, shape: tuple[int, int, int]) -> Split:
    from flaxlab.data import tfds_store

    records = tfds_store.TfdsRecords(folder, part)

    def read() -> list[np.ndarray]:
        _log.info("reading the labels of %s (%s) once; later starts have them", folder, part)
        return [records.labels()]

    key = f"labels-{files_digest(folder, sorted(folder.iterdir()), folder.resolve(), part)}"
    (labels,), _ = through_cache(key, ["labels"], read)
    return Split(LazyImages(records.read, np.arange(len(records)), shape), np.array(labels))
