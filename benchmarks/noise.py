"""Drawn images, for measurements that do not ask what is on them."""

from __future__ import annotations

import numpy as np

from flaxlab.config import ConfigDict
from flaxlab.data.dataset import Dataset, Split
from flaxlab.data.shape import image_shape


def draw_dataset(config: ConfigDict, examples: int) -> Dataset:
    """Draws images of the shape of `config.data`, uint8, of ten classes; test is train."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (examples, *image_shape(config.data)), dtype=np.uint8)
    split = Split(images, rng.integers(0, 10, examples).astype(np.int32))
    names = tuple(map(str, range(10)))
    return Dataset("noise", "Noise", "0", "drawn at random", "", names, split, split)
