"""Loads any image classification set that TFDS has prepared: `config.data.name = "tfds:NAME"`.

Data sets are found by their folders, so your own sets, which TFDS does not know, can be read as
well. Nothing is downloaded, and nothing here needs TensorFlow.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flaxlab.data.cache import (
    Decoded,
    files_fingerprint,
    files_key,
    fingerprinted,
    labels_through_cache,
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
        name: "tfds:NAME" or "tfds:NAME/CONFIG". Without a config, one must be the only prepared.
        data_dir: the TFDS folder.
        shape: (H, W, C) that the pictures are brought to, by `flaxlab.data.images.fit_image`.
        is_lazy: says of a number of decoded bytes whether to leave the pictures in their files.

    Returns:
        The data set in its newest prepared version. Its test split is TFDS's "test", or, where
        there is none or it has no labels (as of ImageNet), "validation".

    Raises:
        UsageError: it is unknown, not prepared, no image classification set, without a split to
            test on, damaged, or lazy and not prepared as ArrayRecord files.
    """
    folder = find_prepared(name.removeprefix(PREFIX), data_dir)
    # Imported here: TFDS takes seconds, which other data should not cost.
    from flaxlab.data import tfds_store

    found = tfds_store.describe(folder)
    test = _test_split(folder, found.examples)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    total = found.examples["train"] + found.examples[test]
    if is_lazy(total * math.prod(shape)):
        splits = [_lazy(folder, part, shape) for part in ("train", test)]
        fingerprint = files_fingerprint(folder, files, shape)
    else:

        def decode() -> Decoded:
            _log.info("decoding %s once; later starts read the decoded images", folder)
            decoded = [tfds_store.read_fitted(folder, part, shape) for part in ("train", test)]
            return fingerprinted(decoded[0], decoded[1], found.class_names)

        cached = through_cache(f"tfds-{files_key(files, shape, test)}", decode)
        splits, fingerprint = [cached.train, cached.test], cached.fingerprint
    return Dataset(
        name=name,
        title=found.title,
        version=folder.name,
        origin=f"TFDS {found.title} {folder.name}, prepared by TFDS; {test} is the test split.",
        fingerprint=fingerprint,
        class_names=found.class_names,
        train=splits[0],
        test=splits[1],
        stored_shape=found.stored_shape,
    )


def find_prepared(name: str, data_dir: Path) -> Path:
    """Returns the folder of the newest prepared version of "NAME" or "NAME/CONFIG".

    Raises:
        UsageError: it is not prepared, or several configs of it are and none is named.
    """
    newest = newest_version(data_dir / name)
    if newest is None and "/" not in name:
        parents = sorted(path for path in (data_dir / name).glob("*") if path.is_dir())
        configs = {path.name: newest_version(path) for path in parents}
        prepared = {config: found for config, found in configs.items() if found}
        if len(prepared) > 1:
            choices = ", ".join(f"{PREFIX}{name}/{config}" for config in prepared)
            raise UsageError(f"several configs of {name} are prepared: give one of {choices}")
        newest = next(iter(prepared.values()), None)
    if newest is None:
        from flaxlab.data import tfds_store

        raise UsageError(tfds_store.why_not_prepared(name, data_dir))
    return newest


def newest_version(folder: Path) -> Path | None:
    """Returns the newest version that TFDS has prepared in the folder of a data set, if any."""
    found = [path.parent for path in folder.glob(f"*/{_INFO}")]
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

    def read() -> np.ndarray:
        _log.info("reading the labels of %s (%s) once; later starts have them", folder, part)
        return records.labels()

    labels = labels_through_cache(f"{files_key(sorted(folder.iterdir()))}-{part}", read)
    return Split(LazyImages(records, np.arange(len(records)), shape), labels)
