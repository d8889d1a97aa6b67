"""In what order the examples of a split make up batches.

An order is a function of (seed, epoch) and nothing else, so a run can be stopped after any epoch
and goes on in the same order. All batches of a split have the same size, so that a step is compiled
once: the last one is filled up with other examples, which `mask` marks as false.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

import numpy as np

from flaxlab.data.dataset import Split

HostBatch = dict[str, np.ndarray]


class Order(NamedTuple):
    """Which examples make up the batches of one pass.

    Attributes:
        numbers: int32 (batches, batch size), of the examples in their split.
        mask: bool (batches, batch size), false where an example only fills its batch up.
    """

    numbers: np.ndarray
    mask: np.ndarray

    def after(self, batches: int) -> Order:
        """Leaves out the first batches."""
        return Order(self.numbers[batches:], self.mask[batches:])


def epoch_order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of `examples` in an epoch: a permutation fixed by (seed, epoch)."""
    return np.random.default_rng((seed, epoch)).permutation(examples)


def batches_per_epoch(examples: int, batch_size: int) -> int:
    """Returns how many batches hold every example once."""
    return -(-examples // batch_size)


def train_order(examples: int, batch_size: int, seed: int, epoch: int) -> Order:
    """Returns the order of one epoch of training."""
    order = epoch_order(examples, seed, epoch)
    batches = batches_per_epoch(examples, batch_size)
    return _in_batches(np.resize(order, batches * batch_size), examples, batch_size)


def eval_order(examples: int, batch_size: int) -> Order:
    """Returns the order of one pass over every example as they stand in the split."""
    missing = batches_per_epoch(examples, batch_size) * batch_size - examples
    return _in_batches(np.pad(np.arange(examples), (0, missing), mode="edge"), examples, batch_size)


def _in_batches(index: np.ndarray, examples: int, batch_size: int) -> Order:
    mask = np.arange(len(index)) < examples
    return Order(index.astype(np.int32).reshape(-1, batch_size), mask.reshape(-1, batch_size))


def train_batches(split: Split, batch_size: int, seed: int, epoch: int) -> Generator[HostBatch]:
    """Yields the batches of one training epoch, on the host; `Feed` sends the same to the devices.

    Each is {"image": uint8 (B, H, W, C), "label": int32 (B,), "mask": bool (B,)}.
    """
    return gather(split, train_order(len(split), batch_size, seed, epoch))


def eval_batches(split: Split, batch_size: int) -> Generator[HostBatch]:
    """Yields every example once, in order; the same form as `train_batches`."""
    return gather(split, eval_order(len(split), batch_size))


def gather(split: Split, order: Order, columns: slice = slice(None)) -> Generator[HostBatch]:
    """Yields the batches of an order, see `train_batches`.

    Args:
        split: where the examples are.
        order: which of them make up each batch.
        columns: the examples of each batch to read; the mask is always whole.
    """
    for index, mask in zip(*order, strict=True):
        chosen = index[columns]
        yield {"image": split.images[chosen], "label": split.labels[chosen], "mask": mask}
