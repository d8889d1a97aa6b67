"""In what order and shape the examples reach the devices.

The order of an epoch is a function of (seed, epoch) alone, so that a resumed run sees the same
batches. Every batch has the same shape, so that one compiled program serves a whole run:

- Training: the last partial batch is filled up with examples from the start of the same epoch's
  order. They are masked out of the loss and the metrics: each example counts once an epoch.
- Evaluation: the last partial batch is filled up with its own last example, masked likewise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flaxlab.data.dataset import Split

HostBatch = dict[str, np.ndarray]


def epoch_order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of `examples` in an epoch: a permutation fixed by (seed, epoch)."""
    return np.random.default_rng((seed, epoch)).permutation(examples)


def batches_per_epoch(examples: int, batch_size: int) -> int:
    """Returns how many batches hold every example once."""
    return -(-examples // batch_size)


class Plan(NamedTuple):
    """Which examples make up the batches of one pass.

    Attributes:
        numbers: int32 (batches, batch size), of the examples in their split.
        mask: bool (batches, batch size), false where an example only fills its batch up.
    """

    numbers: np.ndarray
    mask: np.ndarray


def train_plan(examples: int, batch_size: int, seed: int, epoch: int) -> Plan:
    """Plans one epoch of training."""
    order = epoch_order(examples, seed, epoch)
    batches = batches_per_epoch(examples, batch_size)
    return _plan(np.resize(order, batches * batch_size), examples, batch_size)


def eval_plan(examples: int, batch_size: int) -> Plan:
    """Plans one pass over every example, in order."""
    missing = batches_per_epoch(examples, batch_size) * batch_size - examples
    return _plan(np.pad(np.arange(examples), (0, missing), mode="edge"), examples, batch_size)


def _plan(index: np.ndarray, examples: int, batch_size: int) -> Plan:
    mask = np.arange(len(index)) < examples
    return Plan(index.astype(np.int32).reshape(-1, batch_size), mask.reshape(-1, batch_size))


def train_batches(split: Split, batch_size: int, seed: int, epoch: int) -> Iterator[HostBatch]:
    """Yields the batches of one training epoch.

    Each is {"image": uint8 (B, H, W, C), "label": int32 (B,), "mask": bool (B,)}.
    """
    yield from _batches(split, train_plan(len(split), batch_size, seed, epoch))


def eval_batches(split: Split, batch_size: int) -> Iterator[HostBatch]:
    """Yields every example once, in order; the same form as `train_batches`."""
    yield from _batches(split, eval_plan(len(split), batch_size))


def _batches(split: Split, plan: Plan) -> Iterator[HostBatch]:
    for index, mask in zip(*plan, strict=True):
        yield {"image": split.images[index], "label": split.labels[index], "mask": mask}


def shard_batches(batches: Iterable[HostBatch], devices: int) -> Iterator[HostBatch]:
    """Gives each array a leading device axis, (B, ...) to (devices, B / devices, ...), for `pmap`.

    Raises:
        ValueError: the batch size is no multiple of `devices`.
    """
    for batch in batches:
        size = len(batch["label"])
        if size % devices:
            raise ValueError(f"a batch of {size} does not divide among {devices} devices")
        shape = (devices, size // devices)
        yield {key: array.reshape(*shape, *array.shape[1:]) for key, array in batch.items()}


def scale_pixels(images: jax.Array, scaling: str) -> jax.Array:
    """Maps uint8 pixels to float32, on the device.

    Args:
        images: uint8 (..., H, W, C).
        scaling: "unit" to [0, 1], "symmetric" to [-1, 1], "raw" to [0, 255].
    """
    pixels = images.astype(jnp.float32)
    return {"unit": pixels / 255, "symmetric": pixels / 127.5 - 1, "raw": pixels}[scaling]
