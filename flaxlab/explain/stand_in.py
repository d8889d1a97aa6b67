"""Stands in for a data set that is not at hand: what a step costs does not depend on its images."""

from __future__ import annotations

import numpy as np

from flaxlab.config import ConfigDict
from flaxlab.data.catalog import CATALOG
from flaxlab.data.dataset import Dataset, Split
from flaxlab.data.load import load_dataset
from flaxlab.data.tfds_sets import prepared_folder, tfds_folder
from flaxlab.errors import UsageError


def dataset_or_noise(config: ConfigDict) -> tuple[Dataset, str]:
    """Returns the data set and "", or a random one of its shape and why it is not available.

    Raises:
        UsageError: there is no such data set, or it is there and cannot be read.
    """
    try:
        return load_dataset(config.data), ""
    except UsageError as error:
        name, folder = config.data.name, tfds_folder(config.data.data_dir)
        if name not in CATALOG or prepared_folder(name, folder) is not None:
            raise
        return _drawn(config), str(error)


def _drawn(config: ConfigDict) -> Dataset:
    """Returns two and a half batches of noise, so that the last batch is padded."""
    entry = CATALOG[config.data.name]
    rng = np.random.default_rng(config.seed)
    classes, count = len(entry.class_names), max(5 * config.train.batch_size // 2, 100)
    labels = np.arange(count, dtype=np.int32) % classes
    shape = (count, *config.data.image_shape)
    split = Split(rng.integers(0, 256, shape, dtype=np.uint8), labels)
    return Dataset(
        name=entry.name,
        title=f"noise in the shape of {entry.title}",
        version="",
        origin=f"{count} images drawn at random.",
        fingerprint="",
        class_names=entry.class_names,
        train=split,
        test=split,
    )
