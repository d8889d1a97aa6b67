"""Computes max pooling as a maximum of shifted images, with two forms of its gradient.

XLA's own gradient is a scatter. On a CPU, a sum of shifted images is the fastest; on a GPU, where
each pass over the memory counts, a sum over the windows that hold a pixel, in one pass.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

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
    return _forward(x, window, strides)[0]


def _shifts(window: tuple[int, int]) -> Iterator[tuple[int, int]]:
    yield from itertools.product(range(window[0]), range(window[1]))


def _first_maximum(
    x: jax.Array, window: tuple[int, int], strides: tuple[int, int], numbers: Any
) -> tuple[jax.Array, jax.Array]:
    """Returns the maxima, and the number of the shift that each comes from, of dtype `numbers`."""
    examples, *sides, channels = x.shape
    lengths = zip(sides, window, strides, strict=True)
    down, across = ((side - size) // stride * stride + 1 for side, size, stride in lengths)

    def shifted(i: int, j: int) -> jax.Array:
        stop = (examples, i + down, j + across, channels)
        return lax.slice(x, (0, i, j, 0), stop, (1, *strides, 1))

    best = shifted(0, 0)
    where = jnp.zeros(best.shape, numbers)
    for number, (i, j) in enumerate(_shifts(window)):
        pixels = shifted(i, j)
        where = jnp.where(pixels > best, numbers(number), where)
        best = jnp.maximum(best, pixels)  # which passes NaN on, as `where` would not
    return best, where


def _forward(
    x: jax.Array, window: tuple[int, int], strides: tuple[int, int], numbers: Any = jnp.int16
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    best, where = _first_maximum(x, window, strides, numbers)
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool_on_gpu(x: jax.Array, window: tuple[int, int], strides: tuple[int, int]) -> jax.Array:
    """Takes the maximum of each whole window of `x`, (N, H, W, C), as `max_pool_on_cpu` does.

    It takes the same arguments and has the same results; gradients differ by rounding alone.
    """
    return _gather_forward(x, window, strides)[0]


def _smallest(window: tuple[int, int]) -> Any:
    """Returns the smallest integer type that holds the number of each shift, and -1 and -2."""
    return jnp.int8 if math.prod(window) <= 128 else jnp.int32


def _gather_forward(
    x: jax.Array, window: tuple[int, int], strides: tuple[int, int]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _forward(x, window, strides, _smallest(window))


def _gather_backward(
    window: tuple[int, int],
    strides: tuple[int, int],
    residuals: tuple[jax.Array, jax.Array],
    gradient: jax.Array,
) -> tuple[jax.Array]:
    """Sums, for each pixel, the gradients of the windows whose maximum it is.

    Counted in blocks of one stride, pixel y of block Y lies at y + a * stride in window Y - a: at
    most ceil(window / stride) windows along each side hold it.
    """
    where, x = residuals
    height, width = x.shape[1:3]
    zero, nowhere = jnp.zeros((), gradient.dtype), where.dtype.type(-1)
    row = lax.broadcasted_iota(jnp.int32, (1, height, width, 1), 1) % strides[0]
    column = lax.broadcasted_iota(jnp.int32, (1, height, width, 1), 2) % strides[1]
    windows = (-(-size // stride) for size, stride in zip(window, strides, strict=True))
    total = jnp.zeros(x.shape, gradient.dtype)
    for a, b in itertools.product(*map(range, windows)):
        i, j = row + a * strides[0], column + b * strides[1]
        inside = (i < window[0]) & (j < window[1])
        number = jnp.where(inside, i * window[1] + j, -2).astype(where.dtype)
        there = _spread(where, (a, b), strides, (height, width), nowhere) == number
        total += jnp.where(there, _spread(gradient, (a, b), strides, (height, width), zero), zero)
    return (total,)


def _spread(
    values: jax.Array,
    blocks: tuple[int, int],
    strides: tuple[int, int],
    sides: tuple[int, int],
    fill: Any,
) -> jax.Array:
    """Gives each pixel the value of the window that begins `blocks` blocks before its own block.

    Args:
        values: (N, H', W', C), one for each window.
        blocks: (down, across).
        strides: pixels of a block (down, across).
        sides: (H, W) of the result (N, H, W, C).
        fill: the value of pixels that have no such window.
    """
    examples, *lengths, channels = values.shape
    counts = [-(-side // stride) for side, stride in zip(sides, strides, strict=True)]
    edges = [(b, n - b - k, 0) for b, n, k in zip(blocks, counts, lengths, strict=True)]
    placed = lax.pad(values, fill, [(0, 0, 0), *edges, (0, 0, 0)])
    down, across = counts
    whole = jnp.broadcast_to(
        placed[:, :, None, :, None, :],
        (examples, down, strides[0], across, strides[1], channels),
    )
    whole = whole.reshape(examples, down * strides[0], across * strides[1], channels)
    return whole[:, : sides[0], : sides[1]]


max_pool_on_gpu.defvjp(_gather_forward, _gather_backward)
