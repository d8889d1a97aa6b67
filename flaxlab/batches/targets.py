"""Soft targets: smoothed labels, and examples mixed in pairs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Folded into the key of a step, whose other keys are of other streams.
_STREAM = 0x6D6978


def soft_targets(
    key: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    num_classes: int,
    label_smoothing: float = 0.0,
    mixup: float = 0.0,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Returns the images to train on and, for each, the shares of the classes.

    Args:
        key: the step's key; other streams of it are dropout's and the augmentation's.
        images: floats (N, H, W, C).
        labels: int32 (N,).
        num_classes: number of classes, C.
        label_smoothing: share of each label that is spread over all classes (Szegedy et al., 2016).
        mixup: alpha of mixup (Zhang et al., 2018): each image is mixed with the one before it, and
            their labels in the same proportion, drawn for each batch from a beta distribution with
            both parameters alpha. The image's own share is the larger one: as the order of a batch
            is random, either image of a pair may be the first. 0: no mixing.
        axis_name: the mapped axis under `pmap`, whose devices share the batch; None otherwise.

    Returns:
        Images (N, H, W, C), and targets (N, classes) that sum to 1.
    """
    targets = jax.nn.one_hot(labels, num_classes)
    targets = (1 - label_smoothing) * targets + label_smoothing / num_classes
    if mixup:
        drawn = jax.random.beta(jax.random.fold_in(key, _STREAM), mixup, mixup, dtype=jnp.float32)
        own = jnp.maximum(drawn, 1 - drawn)
        images, targets = (
            own * values + (1 - own) * _of_the_one_before(values, axis_name)
            for values in (images, targets)
        )
    return images, targets


def _of_the_one_before(values: jax.Array, axis_name: str | None) -> jax.Array:
    """Shifts a batch by one example; the first one gets the last one's values, on any device."""
    last = values[-1:]
    if axis_name is not None:
        devices = jax.lax.axis_size(axis_name)
        ring = [(device, (device + 1) % devices) for device in range(devices)]
        last = jax.lax.ppermute(last, axis_name, ring)
    return jnp.concatenate([last, values[:-1]])
