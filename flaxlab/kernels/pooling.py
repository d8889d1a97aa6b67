"""Computes max pooling as a maximum of shifted images, and its gradient as a sum of them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool_on_cpu(x: jax.Array, window: tuple[int, int], strides: tuple[int, int]) -> jax.Array:
    """Takes the maximum of each whole window of `x`, as `flax.linen.max_pool` does.

    The gradient goes to the first pixel, row by row, that is the window's maximum.

    Args:
        x: (N, H, W, C), floats.
        window: (height, width) in pixels.
        strides: (down, across) in pixels.

    Returns:
        (N, (H - window) // stride + 1, ..., C).
    """
    return _first_maximum(x, window, strides)[0]


def _shifts(window: tuple[int, int]) -> Iterator[tuple[int, int]]:
    yield from itertools.product(range(window[0]), range(window[1]))


def _first_maximum(
    x: jax.Array, window: tuple[int, int], strides: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
    """Returns the maxima, and the number of the shift that each comes from, as int16."""
    examples, *sides, channels = x.shape
    lengths = zip(sides, window, strides, strict=True)
    down, across = ((side - size) // stride * stride + 1 for side, size, stride in lengths)

    def shifted(i: int, j: int) -> jax.Array:
        stop = (examples, i + down, j + across, channels)
        return lax.slice(x, (0, i, j, 0), stop, (1, *strides, 1))

    best = shifted(0, 0)
    where = jnp.zeros(best.shape, jnp.int16)
    for number, (i, j) in enumerate(_shifts(window)):
        pixels = shifted(i, j)
        where = jnp.where(pixels > best, jnp.int16(number), where)
        best = jnp.maximum(best, pixels)  # which passes NaN on, as `where` would not
    return best, where


def _forward(
    x: jax.Array, window: tuple[int, int], strides: tuple[int, int]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    best, where = _first_maximum(x, window, strides)
    return best, (where, x)  # only the shape of x is used: `jit` keeps none of its values


def _written_out(where: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns its arguments, as arrays in memory.

    Otherwise XLA would fuse their computation into each use, and repeat it for each shift. On a CPU
    it drops `lax.optimization_barrier` before it fuses, but it cannot see through a branch. Under
    `vmap` the branch becomes a selection: still right, but no longer a barrier.
    """
    always = where[0, 0, 0, 0] >= 0
    arguments = (where, gradient)
    return lax.cond(always, lambda: arguments, lambda: jax.tree.map(jnp.zeros_like, arguments))


def _backward(
    window: tuple[int, int],
    strides: tuple[int, int],
    residuals: tuple[jax.Array, jax.Array],
    gradient: jax.Array,
) -> tuple[jax.Array]:
    where, x = residuals
    where, gradient = _written_out(where, gradient)
    examples, height, width, channels = x.shape
    (down, across), zero = gradient.shape[1:3], jnp.zeros((), gradient.dtype)
    blocks = (-(-height // strides[0]), -(-width // strides[1]))
    # Pixels of the same place within a stride see the same shifts: one image for each place.
    places = dict.fromkeys(_shifts(strides), jnp.zeros((examples, *blocks, channels), x.dtype))
    for number, (i, j) in enumerate(_shifts(window)):
        (below, row), (right, column) = divmod(i, strides[0]), divmod(j, strides[1])
        edges = [(below, blocks[0] - below - down, 0), (right, blocks[1] - right - across, 0)]
        share = jnp.where(where == number, gradient, zero)
        places[row, column] += lax.pad(share, zero, [(0, 0, 0), *edges, (0, 0, 0)])
    stacked = jnp.stack(list(places.values())).reshape(*strides, examples, *blocks, channels)
    whole = stacked.transpose(2, 3, 0, 4, 1, 5)
    whole = whole.reshape(examples, blocks[0] * strides[0], blocks[1] * strides[1], channels)
    return (whole[:, :height, :width],)


max_pool_on_cpu.defvjp(_forward, _backward)
