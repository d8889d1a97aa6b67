"""Convolution by Winograd's minimal filtering, built of matrix products and copies only.

A tile of m x m outputs of an r x r kernel takes (m + r - 1)^2 products for each pair of channels
in place of m^2 r^2 (Winograd, 1980; Lavin and Gray, 2016): tiles and kernels are transformed,
multiplied point by point, summed over the channels, and transformed back. For each point, products
and sums are one matrix product; and each two-dimensional transform is one with a Kronecker matrix,
since compilers for CPUs run one large matrix product faster than many small sums. JAX
differentiates the products and copies: nothing is derived by hand.

Rounding: each extra point costs accuracy. With the points used here and unit-variance inputs, the
root mean square error in float32 is 2 times that of a direct sum for 4 points, 8 times for 6 and
20 times for 8, the most that is allowed.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

MAX_POINTS = 8

# With larger kernels, transformed tiles take more than 9 times the memory of the image.
_LARGEST_KERNEL = 5

# Small, and of both signs and both sides of one: that keeps rounding low (measured; the direction
# is that of Barabasz, Anderson, Soodhalter and Gregg, 2020). The last point is infinity.
_POINTS = tuple(map(Fraction, ("0", "1", "-1", "2", "-1/2", "1/2", "-2")))


@functools.cache
def transforms(tile: int, kernel: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the Cook-Toom matrices of F(tile, kernel), float64.

    With (A, G, B) = transforms(m, r) and t = m + r - 1, the m correlations of t inputs d with a
    kernel g of r values are A @ ((G @ g) * (B @ d)).

    Args:
        tile: outputs of a tile along one dimension, m.
        kernel: side of the kernel, r.

    Returns:
        A (m, t), G (t, r), B (t, t).

    Raises:
        ValueError: t is larger than `MAX_POINTS`.
    """
    count = tile + kernel - 1
    if not 2 <= count <= MAX_POINTS:
        raise ValueError(
            f"F({tile}, {kernel}) needs {count} points; at most {MAX_POINTS} are known"
        )
    points = _POINTS[: count - 1]
    output = [[p**i for p in points] + [Fraction(i == tile - 1)] for i in range(tile)]
    weights, inputs = [], []
    for point in points:
        others = [p for p in points if p != point]
        scale = math.prod((point - p for p in others), start=Fraction(1))
        weights.append([point**j / scale for j in range(kernel)])
        inputs.append([*_polynomial(others), Fraction(0)])
    weights.append([Fraction(j == kernel - 1) for j in range(kernel)])
    inputs.append(_polynomial(points))
    as_array = functools.partial(np.array, dtype=np.float64)
    return as_array(output), as_array(weights), as_array(inputs)


def _polynomial(roots: tuple[Fraction, ...] | list[Fraction]) -> list[Fraction]:
    """Returns the coefficients of the product of (x - root), lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        scaled = [*(-root * c for c in coefficients), Fraction(0)]
        coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


def best_tile(kernel: int, height: int, width: int) -> int:
    """Returns the tile side with the fewest products for an output of (height, width).

    0 where no tile takes fewer products than the direct sum, or where the kernel is too large. Of
    two with as many, the smaller one rounds less; more than 6 points must save a fifth.
    """
    if kernel > _LARGEST_KERNEL:
        return 0

    def cost(tile: int) -> float:
        points = tile + kernel - 1
        products = -(-height // tile) * -(-width // tile) * points**2
        return products * (1.25 if points > 6 else 1.0)

    tile = min(range(2, MAX_POINTS - kernel + 2), key=cost)
    return tile if cost(tile) < height * width * kernel**2 else 0


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    padding: tuple[tuple[int, int], tuple[int, int]],
    tile: int,
) -> jax.Array:
    """Correlates `x` with `kernel`, stride 1, as `lax.conv_general_dilated` does.

    Args:
        x: (N, H, W, C), floats.
        kernel: (r, r, C, O) of the same dtype.
        padding: zeros (before, after) along height and width; none negative.
        tile: m, the side of a tile of outputs.

    Returns:
        (N, H + padding - r + 1, W + padding - r + 1, O).
    """
    examples, *sides, channels = x.shape
    side, _, _, features = kernel.shape
    size = tile + side - 1
    output, weights, inputs = (_both_dimensions(t, x.dtype) for t in transforms(tile, side))
    outputs = [length + sum(pads) - side + 1 for length, pads in zip(sides, padding, strict=True)]
    counts = [-(-length // tile) for length in outputs]

    # Reshapes around the products, and transposes that leave channels last: cheap copies.
    cut = _cut_tiles(_fit(x, padding, counts, tile, size), counts, tile, size)
    spectrum = (inputs @ cut.reshape(size**2, -1)).reshape(size**2, -1, channels)
    filters = (weights @ kernel.reshape(side**2, -1)).reshape(size**2, channels, features)
    products = lax.dot_general(spectrum, filters, (((2,), (1,)), ((0,), (0,))))
    tiles = output @ products.reshape(size**2, -1)
    tiles = tiles.reshape(tile, tile, examples, *counts, features).transpose(2, 3, 0, 4, 1, 5)
    whole = tiles.reshape(examples, counts[0] * tile, counts[1] * tile, features)
    return whole[:, : outputs[0], : outputs[1]]


def _both_dimensions(transform: np.ndarray, dtype: jnp.dtype) -> jax.Array:
    return jnp.asarray(np.kron(transform, transform), dtype)


def _fit(
    x: jax.Array,
    padding: tuple[tuple[int, int], tuple[int, int]],
    counts: list[int],
    tile: int,
    size: int,
) -> jax.Array:
    """Pads or cuts height and width to the blocks of `tile` pixels that hold all tiles."""
    blocks = -(-size // tile) - 1
    wanted = [(count + blocks) * tile for count in counts]
    edges = [
        (before, want - length - before, 0)
        for length, want, (before, _) in zip(x.shape[1:3], wanted, padding, strict=True)
    ]
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def _cut_tiles(x: jax.Array, counts: list[int], tile: int, size: int) -> jax.Array:
    """Cuts (N, H, W, C) into overlapping tiles: (size, size, N, tiles down, tiles across, C).

    The image is cut into blocks of `tile` pixels once; a tile is its own block and the first
    pixels of the next ones.
    """
    examples, height, width, channels = x.shape
    blocks = x.reshape(examples, height // tile, tile, width // tile, tile, channels)
    blocks = blocks.transpose(2, 4, 0, 1, 3, 5)

    def pieces(side: int, count: int) -> list[tuple[int, slice]]:
        return [
            (min(tile, size - start), slice(start // tile, start // tile + count))
            for start in range(0, side, tile)
        ]

    down, across = (pieces(size, count) for count in counts)
    return jnp.concatenate(
        [
            jnp.concatenate([blocks[:h, :w, :, rows, columns] for w, columns in across], axis=1)
            for h, rows in down
        ]
    )
