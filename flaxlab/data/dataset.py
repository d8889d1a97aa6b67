"""A data set as the rest of flaxlab sees it: images, labels, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flaxlab.data.lazy import Images, LazyImages


@dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        images: uint8 (N, H, W, C): an array, memory-mapped or not, or `LazyImages`, which are
            indexed like one.
        labels: int32 (N,).
    """

    images: Images
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Split:
        """Returns the examples at `indices`, lazy if these are lazy, otherwise in memory."""
        if isinstance(self.images, LazyImages):
            return Split(self.images.take(indices), self.labels[indices])
        return Split(np.asarray(self.images[indices]), self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """A data set with its two splits.

    Attributes:
        name: as in `config.data.name`.
        title: what reports call it, for example "CIFAR-10 (JPEG)".
        version: version of the data, such as TFDS's "3.0.1".
        origin: one sentence: where the examples come from and whether they were verified.
        fingerprint: text that changes when an image or a label does.
        class_names: name of each label.
        train: the training split.
        test: the test split.
        stored_shape: (H, W, C), C 1 or 3, of the pictures before they were brought to one shape;
            (C,) if their sizes differ; None if it is unknown or they were stored in this shape.
    """

    name: str
    title: str
    version: str
    origin: str
    fingerprint: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    stored_shape: tuple[int, ...] | None = None

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C) of every image."""
        return self.train.images.shape[1:]


@dataclass(frozen=True)
class RunSplits:
    """The splits of a run, after `config.data.validation` has been applied.

    Attributes:
        train: examples that the optimizer sees.
        validation: examples that score each epoch; the test split in the report's protocol.
        test: examples that score the best epoch once, at the end; None in the report's protocol.
    """

    train: Split
    validation: Split
    test: Split | None
