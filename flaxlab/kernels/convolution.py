"""Chooses the fastest algorithm for each convolution on a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from flaxlab.kernels import patches, winograd

# Up to this many values in a patch, writing patches out costs less than transforming tiles; beyond,
# the patches would take too much memory.
_SMALL_PATCH = 128

# With fewer channels, transforming tiles costs more than the products that it saves.
_ENOUGH_CHANNELS = 16

_CHANNELS_LAST = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


def conv_on_cpu(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> jax.Array:
    """Convolves as `lax.conv_general_dilated` does, by the algorithm that is fast on a CPU.

    It takes the arguments of `lax.conv_general_dilated`, all but the first four by name, and has
    the same results and errors. lax itself computes what nothing here computes faster: strides,
    dilations, groups, large kernels, 16-bit dtypes, layouts other than NHWC.

    Args:
        lhs: (N, H, W, C), float32 or float64 to be fast.
        rhs: (r, s, C, O), of the same dtype.
        window_strides: pixels down and across.
        padding: "SAME", "VALID", or zeros (before, after) along height and width.
        options: the other arguments of `lax.conv_general_dilated`.

    Returns:
        (N, H', W', O), of the same dtype.
    """

    def plain(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)

    outputs = jax.eval_shape(plain, lhs, rhs)  # raises what lax raises
    if tuple(window_strides) != (1, 1) or not _is_dense(lhs, rhs, options) or not outputs.size:
        return plain(lhs, rhs)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], (1, 1), padding)
    (top, bottom), (left, right) = padding
    pads = (top, bottom), (left, right)
    if min(top, bottom, left, right) < 0:
        return plain(lhs, rhs)
    rows, columns, channels, features = rhs.shape
    if rows == columns == 1 or rows * columns * channels <= _SMALL_PATCH:
        return patches.convolve(lhs, rhs, pads)
    tile = winograd.best_tile(rows, *outputs.shape[1:3])
    if tile and rows == columns and min(channels, features) >= _ENOUGH_CHANNELS:
        return winograd.convolve(lhs, rhs, pads, tile)
    return plain(lhs, rhs)


def _is_dense(lhs: jax.Array, rhs: jax.Array, options: Mapping[str, Any]) -> bool:
    """Says whether this convolves NHWC floats of 32 or 64 bits, without dilations or groups."""
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
