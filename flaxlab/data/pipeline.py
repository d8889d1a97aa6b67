"""In what order and shape the examples reach the devices.

The order of an epoch is a function of (seed, epoch) alone, so that a resumed run sees the same
batches. Every batch has the same shape, so that one compiled program serves a whole run:

- Training: the last partial batch is filled up with examples from the start of the same epoch's
  order. They are masked out of the loss and the metrics: each example counts once an epoch.
- Evaluation: the last partial batch is filled up with its own last example, masked likewise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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


def train_batches(split: Split, batch_size: int, seed: int, epoch: int) -> Iterator[HostBatch]:
    """Yields the batches of one training epoch.

    Each is {"image": uint8 (B, H, W, C), "label": int32 (B,), "mask": bool (B,)}.
    """
    order = epoch_order(len(split), seed, epoch)
    filled = np.resize(order, batches_per_epoch(len(order), batch_size) * batch_size)
    yield from _batches(split, filled, batch_size)


def eval_batches(split: Split, batch_size: int) -> Iterator[HostBatch]:
    """Yields every example once, in order; the same form as `train_batches`."""
    order = np.arange(len(split))
    missing = batches_per_epoch(len(order), batch_size) * batch_size - len(order)
    yield from _batches(split, np.pad(order, (0, missing), mode="edge"), batch_size)


def _batches(split: Split, indices: np.ndarray, batch_size: int) -> Iterator[HostBatch]:
    for start in range(0, len(indices), batch_size):
        batch = indices[start : start + batch_size]
        yield {
            "image": split.images[batch],
            "label": split.labels[batch],
            "mask": np.arange(start, start + batch_size) < len(split),
        }


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
