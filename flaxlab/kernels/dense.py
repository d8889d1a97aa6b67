"""The product of a dense layer, with gradients that XLA needs no copies for on a CPU."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def dot_on_cpu(
    lhs: jax.Array,
    rhs: jax.Array,
    dimension_numbers: lax.DotDimensionNumbers,
    **options: Any,
) -> jax.Array:
    """Multiplies as `lax.dot_general` does, with the same values and gradients.

    In a dense layer's product the gradients are computed in an order that saves copies, see
    `_backward`; any other product is `lax.dot_general`.

    Args:
        lhs: (..., F), floats.
        rhs: (F, features), of the same dtype.
        dimension_numbers: the axes that are summed over, and those of a batch of products.
        options: the other arguments of `lax.dot_general`.

    Returns:
        (..., features), of the same dtype.
    """
    (summed, batched) = (tuple(map(tuple, axes)) for axes in dimension_numbers)
    of_a_layer = rhs.ndim == 2 and summed == ((lhs.ndim - 1,), (0,)) and batched == ((), ())
    given = any(value is not None for value in options.values())
    if not of_a_layer or given or lhs.dtype != rhs.dtype or not lhs.size:
        return lax.dot_general(lhs, rhs, dimension_numbers, **options)
    rows = lhs.reshape(-1, lhs.shape[-1])
    return _product(rows, rhs).reshape(*lhs.shape[:-1], rhs.shape[1])


@jax.custom_vjp
def _product(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    return inputs @ kernel


def _forward(inputs: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return inputs @ kernel, (inputs, kernel)


def _backward(residuals: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients of inputs and kernel.

    That of the kernel has its axes in the kernel's order. JAX's own rule multiplies in the other
    order and transposes: where a sum over devices stands between the two, XLA leaves the transpose
    to the optimizer, which then reads the gradient across its rows.

    And it depends on that of the inputs. The optimizer writes the new kernel where the old one is;
    unless all that reads the old one is known to come first, XLA copies the kernel.
    """
    inputs, kernel = residuals
    of_inputs = lax.dot_general(gradient, kernel, (((1,), (1,)), ((), ())))
    # NaN there is NaN here too; all else keeps its bits.
    after = jnp.where(of_inputs <= jnp.inf, inputs, jnp.nan)
    return of_inputs, lax.dot_general(after, gradient, (((0,), (0,)), ((), ())))


_product.defvjp(_forward, _backward)
