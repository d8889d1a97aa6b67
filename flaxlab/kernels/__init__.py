"""Fast layers for a CPU and a GPU; precision and NaN.

Models are given these functions, and import none of them.

On a CPU, XLA's convolutions are slow in the gradient of the weights and with large kernels: the
functions of this package compute the same by matrix products and copies. In a step XLA also copies
the kernel of each dense layer; the product of this package spares it that. On a GPU, XLA calls the
vendor's convolutions, which need no help. On both, its gradient of max pooling is a scatter, and
this package's is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
from jax import lax

from flaxlab.kernels.convolution import conv_on_cpu
from flaxlab.kernels.dense import dot_on_cpu
from flaxlab.kernels.pooling import max_pool_on_cpu, max_pool_on_gpu


class Kernels(NamedTuple):
    """The functions that a model computes with.

    Attributes:
        conv: called as `lax.conv_general_dilated` is.
        max_pool: called as `flax.linen.max_pool` is, with whole windows only.
        dot_general: called as `lax.dot_general` is, by dense layers.
    """

    conv: Callable[..., jax.Array] = lax.conv_general_dilated
    max_pool: Callable[..., jax.Array] = nn.max_pool
    dot_general: Callable[..., jax.Array] = lax.dot_general


PLAIN = Kernels()
_FAST = {
    "cpu": Kernels(conv_on_cpu, max_pool_on_cpu, dot_on_cpu),
    "gpu": Kernels(max_pool=max_pool_on_gpu),
}


def for_backend(backend: str, fast: bool = True) -> Kernels:
    """Returns the kernels for `jax.default_backend()`; the plain ones if not `fast`."""
    return _FAST.get(backend, PLAIN) if fast else PLAIN
