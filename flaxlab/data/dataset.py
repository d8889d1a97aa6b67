"""What a data set is to the rest of flaxlab: images, labels, and a word on where they are from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flaxlab.data.lazy import Images, LazyImages


@dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        images: uint8 (N, H, W, C): an array, memory-mapped or not, or `LazyImages`, which reads
            like one.
        labels: int32 (N,).
    """

    images: Images
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Split:
        """Returns the examples at `indices`: in memory, or as lazily as they are."""
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
        origin: one sentence: where the examples are from and whether they were verified.
        fingerprint: changes when an image or a label does.
        class_names: for each label, what it stands for.
        train: the training split.
        test: the test split.
        stored_shape: (H, W, C), C 1 or 3, of the pictures before they were brought to one shape;
            (C,) where their sizes differ; None where it is not known, or they lie in one shape.
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

    def with_splits(self, train: Split, test: Split) -> Dataset:
        """Returns the same data set with other splits."""
        return replace(self, train=train, test=test)


@dataclass(frozen=True)
class RunSplits:
    """The splits of a run, after `config.data.validation` has been applied.

    Attributes:
        train: what the optimizer sees.
        validation: what each epoch is scored on; the test split itself in the report's protocol.
        test: what is scored once at the end; None in the report's protocol.
    """

    train: Split
    validation: Split
    test: Split | None
