"""Convolves images of few channels by writing out every patch and taking one matrix product."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    padding: tuple[tuple[int, int], tuple[int, int]],
) -> jax.Array:
    """Correlates `x` with `kernel`, stride 1, as `lax.conv_general_dilated` does.

    The patches take r * s times the memory of `x`: this is for the first layer of a network, where
    images have one channel or three.

    Args:
        x: (N, H, W, C), floats.
        kernel: (r, s, C, O) of the same dtype.
        padding: zeros (before, after) along height and width; none negative.

    Returns:
        (N, H + padding - r + 1, W + padding - s + 1, O).
    """
    rows, columns, channels, features = kernel.shape
    planes = jnp.pad(x.transpose(3, 0, 1, 2), ((0, 0), (0, 0), *padding))
    height, width = planes.shape[2] - rows + 1, planes.shape[3] - columns + 1
    # Pixels last: a copy of a whole row of pixels at once.
    patches = jnp.stack(
        [planes[:, :, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
    )
    contract_first = (((0,), (0,)), ((), ()))
    outputs = lax.dot_general(
        patches.reshape(rows * columns * channels, -1),
        kernel.reshape(rows * columns * channels, features),
        contract_first,
    )
    return outputs.reshape(x.shape[0], height, width, features)
