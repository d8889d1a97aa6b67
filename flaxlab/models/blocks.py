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
from jax import lax

from flaxlab.models.dropout import Dropout
from flaxlab.models.norm import Norm, Standardized
from flaxlab.models.pool import Pool, require_size

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

# Glorot: Glorot and Bengio (2010), Keras's default. He: He et al. (2015), for ReLU. LeCun: LeCun et
# al. (1998). The normal ones are cut off at two standard deviations, as in Keras. Orthogonal: Saxe
# et al. (2014); of a convolution, the kernel as a matrix (height * width * channels, filters).
INITIALIZERS: dict[str, nn.initializers.Initializer] = {
    "glorot_uniform": nn.initializers.glorot_uniform(),
    "he_normal": nn.initializers.he_normal(),
    "lecun_normal": nn.initializers.lecun_normal(),
    "orthogonal": nn.initializers.orthogonal(),
}

# Where a block normalizes. After the pooling: the lab report. Before the activation: Ioffe and
# Szegedy (2015). The latter two normalize after each convolution of a block.
NORM_PLACES = ("after_pool", "before_activation", "after_activation")
# Dropout before a batch normalization makes the variance in evaluation another than the one that
# the running statistics hold (Li et al., 2018, "Disharmony between dropout and batch
# normalization").
DROPOUT_PLACES = ("after_norm", "before_norm")


class Activation(nn.Module):
    """A function of single values, as a module, so that the table of layers shows its place.

    Attributes:
        kind: a key of `ACTIVATIONS`.
    """

    kind: str

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `x` to the same shape."""
        return ACTIVATIONS[self.kind](x)


class HeadInput(nn.Module):
    """What the head gets of the feature maps, as a module for the table of layers.

    Attributes:
        kind: "flatten", all values; or "average", the mean of each channel (Lin et al., 2014).
    """

    kind: str

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (N, H, W, C) to (N, H * W * C) or (N, C)."""
        return jnp.mean(x, axis=(1, 2)) if self.kind == "average" else x.reshape(x.shape[0], -1)


class ConvBlock(nn.Module):
    """Convolutions with activations, then pooling, normalization and dropout, in this order.

    Attributes:
        convs: (filters, kernel side) of each convolution; all but the first have stride 1.
        padding: "SAME" or "VALID", for the convolutions.
        pool: window and stride of the pooling, in pixels.
        stride: step of the first convolution, in pixels.
        activation: a key of `ACTIVATIONS`, after each convolution, also one that pools.
        kernel_init: a key of `INITIALIZERS`.
        standardize: whether kernels are standardized, see `flaxlab.models.norm.Standardized`.
        pool_kind: see `Pool`.
        norm: the normalization.
        norm_place: one of `NORM_PLACES`.
        dropout: share of the block's output values that training sets to zero.
        dropout_kind: see `Dropout`.
        dropout_region: side of the squares that the kind "region" drops, in pixels.
        dropout_place: one of `DROPOUT_PLACES`: at the end of the block, or right before its last
            normalization.
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
    standardize: bool = False
    pool_kind: str = "max"
    norm: Norm = Norm("none")
    norm_place: str = "after_pool"
    dropout: float = 0.0
    dropout_kind: str = "element"
    dropout_region: int = 3
    dropout_place: str = "after_norm"
    dtype: jnp.dtype = jnp.dtype("float32")
    conv: Callable[..., jax.Array] = lax.conv_general_dilated
    max_pool: Callable[..., jax.Array] = nn.max_pool
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (N, H, W, C) to (N, H', W', filters of the last convolution).

        Raises:
            ValueError: the image is smaller than a "VALID" kernel or the pooling window, or does
                not suit the normalization.
        """
        kernel_init = INITIALIZERS[self.kernel_init]
        convolve = Standardized(self.conv) if self.standardize else self.conv

        def drop(x: jax.Array, place: str) -> jax.Array:
            if place != self.dropout_place or self.dropout == 0:
                return x
            layer = Dropout(
                self.dropout, self.axis_name, self.dropout_kind, self.dropout_region, name="dropout"
            )
            return layer(x, train=train)

        def normalize(x: jax.Array, place: str, name: str, *, last: bool = True) -> jax.Array:
            if place != self.norm_place:
                return x
            x = drop(x, "before_norm") if last else x
            return self.norm(x, train=train, name=name)

        for index, (filters, kernel) in enumerate(self.convs, start=1):
            if self.padding == "VALID":
                require_size(x, kernel, "convolution kernel", self)
            x = nn.Conv(
                filters,
                (kernel, kernel),
                strides=self.stride if index == 1 else 1,
                padding=self.padding,
                kernel_init=kernel_init,
                dtype=self.dtype,
                conv_general_dilated=convolve,
                name=f"conv{index}",
            )(x)
            last = index == len(self.convs)
            x = normalize(x, "before_activation", f"norm{index}", last=last)
            x = Activation(self.activation, name=f"activation{index}")(x)
            x = normalize(x, "after_activation", f"norm{index}", last=last)
        pool = Pool(
            self.pool_kind,
            *self.pool,
            kernel_init,
            self.dtype,
            convolve,
            self.max_pool,
            name="pool",
        )
        x = pool(x)
        if self.pool_kind == "conv":
            x = Activation(self.activation, name="pool_activation")(x)
        x = normalize(x, "after_pool", "norm")
        return drop(x, "after_norm")


class DenseBlock(nn.Module):
    """A dense layer with its activation, then normalization and dropout, in this order.

    Attributes:
        features: number of output features.
        activation: a key of `ACTIVATIONS`.
        kernel_init: a key of `INITIALIZERS`.
        norm: the normalization.
        norm_place: one of `NORM_PLACES`; there is no pooling, and "after_pool" is after the
            activation.
        dropout: share of the block's output values that training sets to zero.
        dropout_place: one of `DROPOUT_PLACES`.
        dot_general: computes the product; called as `lax.dot_general`.
        dtype: dtype of the computation; parameters stay float32.
        axis_name: the mapped axis that cuts the batch under `pmap`, if there is one.
    """

    features: int
    activation: str
    kernel_init: str = "glorot_uniform"
    norm: Norm = Norm("none")
    norm_place: str = "after_pool"
    dropout: float = 0.0
    dropout_place: str = "after_norm"
    dot_general: Callable[..., jax.Array] = lax.dot_general
    dtype: jnp.dtype = jnp.dtype("float32")
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (N, F) to (N, features).

        Raises:
            ValueError: the features do not suit the normalization.
        """

        def drop(x: jax.Array, place: str) -> jax.Array:
            if place != self.dropout_place or self.dropout == 0:
                return x
            return Dropout(self.dropout, self.axis_name, name="dropout")(x, train=train)

        def normalize(x: jax.Array) -> jax.Array:
            return self.norm(drop(x, "before_norm"), train=train)

        x = nn.Dense(
            self.features,
            kernel_init=INITIALIZERS[self.kernel_init],
            dtype=self.dtype,
            dot_general=self.dot_general,
            name="dense",
        )(x)
        if self.norm_place == "before_activation":
            x = normalize(x)
        x = Activation(self.activation, name="activation")(x)
        if self.norm_place != "before_activation":
            x = normalize(x)
        return drop(x, "after_norm")
