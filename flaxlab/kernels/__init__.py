"""Computes convolutions and max pooling on a CPU, and looks for NaN.

Models are given these functions, and import none of them.

On a GPU, XLA calls the vendor's kernels and needs no help. On a CPU, XLA's
convolutions are slow in the gradient of the weights and with large kernels, and its gradient of max
pooling is a scatter: the functions of this package compute the same by matrix products and copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
from jax import lax

from flaxlab.kernels.convolution import conv_on_cpu
from flaxlab.kernels.pooling import max_pool_on_cpu


class Kernels(NamedTuple):
    """The functions that a model computes with.

    Attributes:
        conv: called as `lax.conv_general_dilated` is.
        max_pool: called as `flax.linen.max_pool` is, with whole windows only.
    """

    conv: Callable[..., jax.Array] = lax.conv_general_dilated
    max_pool: Callable[..., jax.Array] = nn.max_pool


PLAIN = Kernels()


def for_backend(backend: str, fast: bool = True) -> Kernels:
    """Returns the kernels for `jax.default_backend()`; the plain ones if not `fast`."""
    return Kernels(conv_on_cpu, max_pool_on_cpu) if fast and backend == "cpu" else PLAIN
