"""Which algorithm convolves what on a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from flaxlab.kernels import patches, winograd

# Up to so many values of a patch, writing patches out costs less than transforming tiles.
_SMALL_PATCH = 128

# With fewer channels, transforming tiles costs more than the products that it saves.
_ENOUGH_CHANNELS = 16

_CHANNELS_LAST = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))

Padding = tuple[tuple[int, int], tuple[int, int]]


def conv_on_cpu(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> jax.Array:
    """Convolves as `lax.conv_general_dilated` does, by the algorithm that is fast on a CPU.

    Arguments, result and errors are those of `lax.conv_general_dilated`, which computes whatever
    nothing here is faster for: strides, dilations, groups, large kernels, 16-bit dtypes, layouts
    other than NHWC.
    """
    plain = lax.conv_general_dilated
    result = jax.eval_shape(lambda x, w: plain(x, w, window_strides, padding, **options), lhs, rhs)
    if tuple(window_strides) == (1, 1) and _is_simple(lhs, rhs, options) and result.size:
        pads = _as_pairs(padding, lhs, rhs)
        side, other_side, channels, features = rhs.shape
        if min(map(min, pads)) < 0:
            pass
        elif side * other_side * channels <= _SMALL_PATCH:
            return patches.convolve(lhs, rhs, pads)
        elif side == other_side and min(channels, features) >= _ENOUGH_CHANNELS:
            tile = winograd.best_tile(side, *result.shape[1:3])
            if tile:
                return winograd.convolve(lhs, rhs, pads, tile)
    return plain(lhs, rhs, window_strides, padding, **options)


def _is_simple(lhs: jax.Array, rhs: jax.Array, options: Mapping[str, Any]) -> bool:
    """Tells a dense convolution of NHWC images in 32 or 64 bits, without dilation or groups."""
    if lhs.ndim != 4 or lhs.dtype != rhs.dtype or lhs.dtype not in (jnp.float32, jnp.float64):
        return False
    given = {key: value for key, value in options.items() if value is not None}
    layout = lax.conv_dimension_numbers(lhs.shape, rhs.shape, given.pop("dimension_numbers", None))
    groups = given.pop("feature_group_count", 1), given.pop("batch_group_count", 1)
    dilations = given.pop("lhs_dilation", (1, 1)), given.pop("rhs_dilation", (1, 1))
    return (
        not given
        and layout == _CHANNELS_LAST
        and groups == (1, 1)
        and all(tuple(dilation) == (1, 1) for dilation in dilations)
    )


def _as_pairs(padding: str | Sequence[tuple[int, int]], lhs: jax.Array, rhs: jax.Array) -> Padding:
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], (1, 1), padding)
    (top, bottom), (left, right) = padding
    return (top, bottom), (left, right)
