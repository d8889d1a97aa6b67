"""What happens to images on the device: scaled, changed at random for training, mirrored to score.

Every example has a key of its own, so that what is drawn for it does not depend on how the batch
is split among devices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Folded into the key of a step: its other keys (of dropout, of devices) take small numbers.
_STREAM = 0x617567


def scale_pixels(images: jax.Array, scaling: str) -> jax.Array:
    """Maps uint8 pixels to float32.

    Args:
        images: uint8 (..., H, W, C).
        scaling: "unit" to [0, 1], "symmetric" to [-1, 1], "raw" to [0, 255].
    """
    pixels = images.astype(jnp.float32)
    return {"unit": pixels / 255, "symmetric": pixels / 127.5 - 1, "raw": pixels}[scaling]


def example_keys(key: jax.Array, examples: int, axis_name: str | None = None) -> jax.Array:
    """Returns a key for each example of a batch.

    Args:
        key: the step's key; dropout uses other ones.
        examples: number of examples on this device, B.
        axis_name: the mapped axis under `pmap`, whose devices share the batch; None otherwise.

    Returns:
        Typed keys (B,).
    """
    rows = jnp.arange(examples)
    if axis_name is not None:
        rows += jax.lax.axis_index(axis_name) * examples
    return jax.vmap(functools.partial(jax.random.fold_in, jax.random.fold_in(key, _STREAM)))(rows)


def augment(
    keys: jax.Array,
    images: jax.Array,
    flip: bool = False,
    pad_and_crop: int = 0,
    cutout: int = 0,
) -> jax.Array:
    """Changes each image at random; what is left out changes nothing of what the others draw.

    Args:
        keys: (B,), one of each example.
        images: uint8 (B, H, W, C).
        flip: mirror half of the images left to right.
        pad_and_crop: pixels of zeros laid around an image, of which a part of H x W is cut out,
            as He et al. (2016), "Deep residual learning", do on CIFAR-10 with 4.
        cutout: side in pixels of a square of zeros, whose centre is any pixel: near the edge it
            lies outside in part (DeVries and Taylor, 2017). There, it is laid on images whose
            mean is zero; here, on uint8.

    Returns:
        uint8 (B, H, W, C).
    """

    def change(key: jax.Array, image: jax.Array) -> jax.Array:
        crop_key, flip_key, cutout_key = jax.random.split(key, 3)
        if pad_and_crop:
            image = _pad_and_crop(crop_key, image, pad_and_crop)
        if flip:
            image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
        if cutout:
            image = _cutout(cutout_key, image, cutout)
        return image

    return jax.vmap(change)(keys, images)


def _pad_and_crop(key: jax.Array, image: jax.Array, pixels: int) -> jax.Array:
    padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def _cutout(key: jax.Array, image: jax.Array, side: int) -> jax.Array:
    sides = jnp.array(image.shape[:2])
    first = jax.random.randint(key, (2,), 0, sides) - side // 2

    def inside(axis: int) -> jax.Array:
        place = jnp.arange(image.shape[axis]) - first[axis]
        return (place >= 0) & (place < side)

    square = inside(0)[:, None] & inside(1)[None, :]
    return jnp.where(square[..., None], jnp.uint8(0), image)


def over_flips(compute: Callable[[jax.Array], Any], flips: bool) -> Callable[[jax.Array], Any]:
    """Returns `compute`, of images (N, H, W, C); with `flips`, its mean with that of their mirror.

    Simonyan and Zisserman (2015) average the class probabilities so; here, as in airbench (Jordan,
    2024), it is the logits.
    """
    if not flips:
        return compute
    return lambda images: (compute(images) + compute(jnp.flip(images, axis=2))) / 2
