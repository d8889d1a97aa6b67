"""The building blocks of the lab report's networks, as pure `flax.linen` modules.

A module holds no state of its own. Its parameters and running statistics come in with `apply`,
and what a training step changes comes out of it:

    logits, updates = model.apply(
        {"params": params, "batch_stats": batch_stats}, images, train=True,
        rngs={"dropout": key}, mutable=["batch_stats"])

Defaults follow Keras, in which the report's networks were written: Glorot-uniform kernels
(Glorot and Bengio, 2010), zero biases, batch normalization (Ioffe and Szegedy, 2015) after the
pooling, "valid" pooling.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# ReLU: Nair and Hinton (2010). GELU, x times the normal distribution's share below x: Hendrycks and
# Gimpel (2016), exact as in Keras. SiLU, x * sigmoid(x): Elfwing et al. (2018). ELU, with alpha 1:
# Clevert et al. (2016). Leaky ReLU, with slope 0.01 below zero: Maas et al. (2013).
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "tanh": nn.tanh,
    "gelu": functools.partial(nn.gelu, approximate=False),
    "silu": nn.silu,
    "elu": nn.elu,
    "leaky_relu": nn.leaky_relu,
}
POOLINGS = ("max", "avg")

# Glorot: Glorot and Bengio (2010), Keras's default. He: He et al. (2015), for ReLU. LeCun: LeCun et
# al. (1998). The normal ones are cut off at two standard deviations, as in Keras. Orthogonal: Saxe
# et al. (2014); of a convolution, the kernel as a matrix (height * width * channels, filters).
INITIALIZERS: dict[str, nn.initializers.Initializer] = {
    "glorot_uniform": nn.initializers.glorot_uniform(),
    "he_normal": nn.initializers.he_normal(),
    "lecun_normal": nn.initializers.lecun_normal(),
    "orthogonal": nn.initializers.orthogonal(),
}

# Makes a normalization layer: `norm(use_running_average=..., name=...)`.
NormFactory = Callable[..., nn.Module]


class Pool(nn.Module):
    """Square pooling over whole windows only (Keras `padding="valid"`).

    Attributes:
        kind: "max" or "avg".
        window: side of the window, in pixels.
        stride: step of the window, in pixels.
        max_pool: computes the maxima; called as `flax.linen.max_pool`.
    """

    kind: str
    window: int
    stride: int
    max_pool: Callable[..., jax.Array] = nn.max_pool

    def __call__(self, x: jax.Array) -> jax.Array:
        """Pools `x` (N, H, W, C) to (N, (H - window) // stride + 1, ..., C).

        Raises:
            ValueError: `x` is smaller than one window.
        """
        _require_size(x, self.window, "pooling window", self)
        pool = {"max": self.max_pool, "avg": nn.avg_pool}[self.kind]
        return pool(x, (self.window, self.window), (self.stride, self.stride))


class Dropout(nn.Module):
    """Sets a share of the values to zero and scales up the others (Srivastava et al., 2014).

    Equal to `flax.linen.Dropout` to the bit. Under `pmap`, with `axis_name`, each device draws the
    mask of the whole batch and takes its own part of it: the values that are dropped do not depend
    on the number of devices, as they do not with sharded arrays. Nor do they depend on
    `jax_enable_x64`, as they do with `flax.linen.Dropout`: a step in float64 drops the same values.

    Attributes:
        rate: share of the values, in [0, 1).
        axis_name: the mapped axis that cuts the batch, if there is one.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps `x` (N, ...) to the same shape; in training by a "dropout" key, else itself."""
        if not train:
            return x
        keep = 1.0 - self.rate
        own, *rest = x.shape
        examples = own if self.axis_name is None else own * lax.axis_size(self.axis_name)
        # With a Python float, JAX would draw in float64 under `jax_enable_x64`.
        share = np.float32(keep)
        mask = jax.random.bernoulli(self.make_rng("dropout"), share, (examples, *rest))
        if self.axis_name is not None:
            mask = lax.dynamic_slice_in_dim(mask, lax.axis_index(self.axis_name) * own, own)
        return lax.select(mask, x / keep, jnp.zeros_like(x))


class ConvBlock(nn.Module):
    """Convolutions with activations, then pooling, batch normalization and dropout, in this order.

    Attributes:
        convs: (filters, kernel side) of each convolution; all but the first have stride 1.
        activation: a key of `ACTIVATIONS`, after each convolution.
        kernel_init: a key of `INITIALIZERS`.
        stride: step of the first convolution, in pixels.
        padding: "SAME" or "VALID", for the convolutions.
        pool: window and stride of the pooling, in pixels.
        pool_kind: "max" or "avg".
        norm: makes the normalization layer; None leaves it out.
        dropout: share of the block's output values that training sets to zero.
        dtype: dtype of the computation; parameters stay float32.
        conv: computes the convolutions; called as `lax.conv_general_dilated`.
        max_pool: computes max pooling; called as `flax.linen.max_pool`.
        axis_name: the mapped axis that cuts the batch under `pmap`, if there is one.
    """

    convs: tuple[tuple[int, int], ...]
    padding: str
    pool: tuple[int, int]
    stride: int = 1
    activation: str = "relu"
    kernel_init: str = "glorot_uniform"
    pool_kind: str = "max"
    norm: NormFactory | None = None
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.dtype("float32")
    conv: Callable[..., jax.Array] = lax.conv_general_dilated
    max_pool: Callable[..., jax.Array] = nn.max_pool
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (N, H, W, C) to (N, H', W', filters of the last convolution).

        Raises:
            ValueError: the image is smaller than a "VALID" kernel or the pooling window.
        """
        for index, (filters, kernel) in enumerate(self.convs, start=1):
            if self.padding == "VALID":
                _require_size(x, kernel, "convolution kernel", self)
            x = nn.Conv(
                filters,
                (kernel, kernel),
                strides=self.stride if index == 1 else 1,
                padding=self.padding,
                kernel_init=INITIALIZERS[self.kernel_init],
                dtype=self.dtype,
                conv_general_dilated=self.conv,
                name=f"conv{index}",
            )(x)
            x = ACTIVATIONS[self.activation](x)
        x = Pool(self.pool_kind, *self.pool, self.max_pool, name="pool")(x)
        if self.norm is not None:
            x = self.norm(use_running_average=not train, name="norm")(x)
        if self.dropout > 0:
            x = Dropout(self.dropout, self.axis_name, name="dropout")(x, train=train)
        return x


class DenseBlock(nn.Module):
    """A dense layer with its activation, then batch normalization and dropout, in this order.

    Attributes:
        features: number of output features.
        activation: a key of `ACTIVATIONS`.
        kernel_init: a key of `INITIALIZERS`.
        norm: makes the normalization layer; None leaves it out.
        dropout: share of the block's output values that training sets to zero.
        dtype: dtype of the computation; parameters stay float32.
        axis_name: the mapped axis that cuts the batch under `pmap`, if there is one.
    """

    features: int
    activation: str
    kernel_init: str = "glorot_uniform"
    norm: NormFactory | None = None
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.dtype("float32")
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (N, F) to (N, features)."""
        kernel_init = INITIALIZERS[self.kernel_init]
        x = nn.Dense(self.features, kernel_init=kernel_init, dtype=self.dtype, name="dense")(x)
        x = ACTIVATIONS[self.activation](x)
        if self.norm is not None:
            x = self.norm(use_running_average=not train, name="norm")(x)
        if self.dropout > 0:
            x = Dropout(self.dropout, self.axis_name, name="dropout")(x, train=train)
        return x


def _require_size(x: jax.Array, side: int, what: str, module: nn.Module) -> None:
    height, width = x.shape[1:3]
    if min(height, width) < side:
        place = "/".join(module.path)
        raise ValueError(
            f"{place}: the {what} of {side}x{side} does not fit into its input of"
            f" {height}x{width}; use larger images, SAME padding or smaller pools"
        )
