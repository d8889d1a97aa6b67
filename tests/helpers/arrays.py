"""Arrays to compute with, and the value and gradients of a function of arrays."""

import jax
import jax.numpy as jnp
import numpy as np


def random(*shape, dtype="float64", seed=0):
    """Normally distributed numbers: the same for the same shape and seed."""
    return np.random.default_rng((seed, *shape)).normal(size=shape).astype(dtype)


def value_and_gradients(function, *arrays):
    """The value of a function, and what reaches each of its arguments of an uneven cotangent."""

    def run(*arrays):
        value, pull = jax.vjp(function, *arrays)
        # A sum alone would not see pixels that change places.
        cotangent = jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape)
        return value, *pull(cotangent)

    return [np.asarray(array) for array in jax.jit(run)(*arrays)]
