"""The product of a dense layer, whose gradients need no copies on a CPU."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero

_LAYER = (((1,), (0,)), ((), ()))


def dot_on_cpu(
    lhs: jax.Array,
    rhs: jax.Array,
    dimension_numbers: lax.DotDimensionNumbers,
    precision: Any = None,
    preferred_element_type: Any = None,
    **options: Any,
) -> jax.Array:
    """Multiplies as `lax.dot_general` does.

    The product of a dense layer has gradients of its own, see `_backward`: they are those of lax
    as long as they are finite, and NaN can spread further. Like any function with a gradient of its
    own, it has no forward-mode derivative. All other products are lax's.

    Args:
        lhs: (..., F), floats.
        rhs: (F, features), of the same dtype.
        dimension_numbers: the axes that are summed over, and those of a batch of products.
        precision: see `lax.dot_general`.
        preferred_element_type: see `lax.dot_general`.
        options: its other arguments.

    Returns:
        (..., features), of the same dtype.
    """
    given = precision, preferred_element_type, *options.values()
    summed, batched = (tuple(map(tuple, axes)) for axes in dimension_numbers)
    of_a_layer = (
        rhs.ndim == 2
        and (summed, batched) == (((lhs.ndim - 1,), (0,)), ((), ()))
        and lhs.shape[-1] == rhs.shape[0]
        and lhs.dtype == rhs.dtype
        and lhs.size
    )
    if not of_a_layer or any(value is not None for value in given):
        return lax.dot_general(
            lhs, rhs, dimension_numbers, precision, preferred_element_type, **options
        )
    rows = lhs.reshape(-1, lhs.shape[-1])
    return _product(rows, rhs).reshape(*lhs.shape[:-1], rhs.shape[1])


@jax.custom_vjp
def _product(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.dot_general(inputs, kernel, _LAYER)


def _forward(inputs: CustomVJPPrimal, kernel: CustomVJPPrimal) -> tuple[jax.Array, tuple]:
    # Of the images, for one, nobody asks for the gradient.
    asked = () if inputs.perturbed else None
    return _product(inputs.value, kernel.value), (inputs.value, kernel.value, asked)


def _backward(
    residuals: tuple, gradient: jax.Array | SymbolicZero
) -> tuple[jax.Array | None, jax.Array]:
    """Returns the gradients of inputs and kernel.

    That of the kernel has its axes in the kernel's order. JAX's own rule multiplies in the other
    order and transposes: where a sum over devices stands between the two, XLA leaves the transpose
    to the optimizer, which then reads the gradient across its rows.

    And it depends on that of the inputs. The optimizer writes the new kernel where the old one is:
    XLA copies the old one first, unless all that reads it is known to be done.
    `lax.optimization_barrier` would say so more plainly, but XLA drops it on a CPU.
    """
    inputs, kernel, asked = residuals
    if isinstance(gradient, SymbolicZero):
        gradient = jnp.zeros(gradient.shape, gradient.dtype)
    of_inputs = None
    if asked is not None:
        of_inputs = lax.dot_general(gradient, kernel, (((1,), (1,)), ((), ())))
        inputs = jnp.where(jnp.isnan(of_inputs), jnp.nan, inputs)
    return of_inputs, lax.dot_general(inputs, gradient, (((0,), (0,)), ((), ())))


_product.defvjp(_forward, _backward, symbolic_zeros=True)
