"""Pooling layers."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

POOLINGS = ("max", "avg", "conv", "blur")


class Pool(nn.Module):
    """Square pooling over whole windows only (Keras `padding="valid"`).

    Attributes:
        kind: "max"; "avg"; "conv", a convolution with as many filters as channels, which learns how
            to pool (Springenberg et al., 2015); or "blur", the maxima of all windows, smoothed
            before the stride is taken (Zhang, 2019).
        window: side of the window, in pixels.
        stride: step of the window, in pixels.
        kernel_init: draws the kernel of "conv".
        dtype: dtype of the computation of "conv".
        conv: computes "conv"; called as `lax.conv_general_dilated`.
        max_pool: computes the maxima; called as `flax.linen.max_pool`.
    """

    kind: str
    window: int
    stride: int
    kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()
    dtype: jnp.dtype = jnp.dtype("float32")
    conv: Callable[..., jax.Array] = lax.conv_general_dilated
    max_pool: Callable[..., jax.Array] = nn.max_pool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Pools `x` (N, H, W, C) to (N, (H - window) // stride + 1, ..., C).

        Raises:
            ValueError: `x` is smaller than one window.
        """
        require_size(x, self.window, "pooling window", self)
        window, strides = (self.window, self.window), (self.stride, self.stride)
        match self.kind:
            case "max":
                return self.max_pool(x, window, strides)
            case "avg":
                return nn.avg_pool(x, window, strides)
            case "conv":
                return nn.Conv(
                    x.shape[-1],
                    window,
                    strides=self.stride,
                    padding="VALID",
                    kernel_init=self.kernel_init,
                    dtype=self.dtype,
                    conv_general_dilated=self.conv,
                    name="conv",
                )(x)
            case "blur":
                return blur(self.max_pool(x, window, (1, 1)), self.stride)
        raise ValueError(f"{self.kind!r} is not a pooling; use one of {', '.join(POOLINGS)}")


def blur(x: jax.Array, stride: int) -> jax.Array:
    """Returns every `stride`-th pixel of images smoothed by (1, 2, 1) / 4 along rows and columns.

    Args:
        x: images (N, H, W, C); beyond their edges the pixels at the edge go on.
        stride: in pixels.

    Returns:
        Images (N, ceil(H / stride), ceil(W / stride), C).
    """
    for axis in (1, 2):
        size = x.shape[axis]
        padded = jnp.pad(x, [(int(axis == other),) * 2 for other in range(4)], mode="edge")
        before, here, after = (
            lax.slice_in_dim(padded, start, start + size, stride, axis) for start in range(3)
        )
        x = (before + 2 * here + after) / 4
    return x


def require_size(x: jax.Array, side: int, what: str, module: nn.Module) -> None:
    """Raises a `ValueError` if images (N, H, W, C) are smaller than `side`; it names `module`."""
    height, width = x.shape[1:3]
    if min(height, width) < side:
        place = "/".join(module.path)
        raise ValueError(
            f"{place}: the {what} of {side}x{side} does not fit into its input of"
            f" {height}x{width}; use larger images, SAME padding or smaller pools"
        )
