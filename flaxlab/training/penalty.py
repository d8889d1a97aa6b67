"""Penalties on kernels, as Keras's `regularizers.L1` and `regularizers.L2` define them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from flaxlab.training.state import Params


def penalised_kernels(params: Params) -> dict[str, jax.Array]:
    """Returns {path: kernel} of every convolution and hidden dense layer.

    Kernels are float32: (h, w, in, out) in a convolution, (in, out) in a dense layer. Biases,
    batch normalization and the output layer are left out, as in the lab report.
    """
    kernels = flatten_dict(params, sep="/").items()
    return {
        path: leaf
        for path, leaf in kernels
        if path.endswith("/kernel") and not path.startswith("output/")
    }


def penalty(params: Params, l1: float, l2: float) -> jax.Array:
    """Returns l1 * sum(|w|) + l2 * sum(w**2) over the penalised kernels, a float32 scalar.

    There is no factor 1/2 and no division by the batch size: Keras's definition.
    """
    total = jnp.zeros(())
    for kernel in penalised_kernels(params).values():
        if l1:
            total += l1 * jnp.sum(jnp.abs(kernel))
        if l2:
            total += l2 * jnp.sum(jnp.square(kernel))
    return total
