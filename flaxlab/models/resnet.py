"""Residual networks for small images, with and without what makes them residual."""

from __future__ import annotations

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from flaxlab.models.blocks import INITIALIZERS, Activation, HeadInput
from flaxlab.models.dropout import Dropout
from flaxlab.models.norm import Norm, Standardized

SHORTCUTS = ("pad", "projection", "none")


class ResidualBlock(nn.Module):
    """Two convolutions of 3x3 whose output is added to their input, before the last activation.

    Attributes:
        filters: number of filters of both convolutions.
        stride: step of the first convolution, in pixels.
        shortcut: how the input is brought to the output's shape: "pad" takes every `stride`-th
            pixel and adds channels of zeros (A in He et al.), "projection" is a convolution of 1x1
            (B); where the shapes agree both leave the input as it is. With "none" nothing is added.
        activation: a key of `ACTIVATIONS`.
        kernel_init: a key of `INITIALIZERS`.
        norm: the normalization, after each convolution.
        dropout: share of the values between the convolutions that training sets to zero.
        dropout_kind: see `Dropout`.
        skipped: share of the examples whose convolutions training leaves out.
        dtype: dtype of the computation; parameters stay float32.
        conv: computes the convolutions; called as `lax.conv_general_dilated`.
        axis_name: the mapped axis that cuts the batch under `pmap`, if there is one.
    """

    filters: int
    stride: int
    shortcut: str
    activation: str
    kernel_init: str
    norm: Norm
    dropout: float = 0.0
    dropout_kind: str = "element"
    skipped: float = 0.0
    dtype: jnp.dtype = jnp.dtype("float32")
    conv: Callable[..., jax.Array] = lax.conv_general_dilated
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps (N, H, W, C) to (N, ceil(H / stride), ceil(W / stride), filters)."""
        activate = functools.partial(Activation, self.activation)
        convolve = functools.partial(
            nn.Conv,
            self.filters,
            use_bias=self.norm.kind == "none",
            kernel_init=INITIALIZERS[self.kernel_init],
            dtype=self.dtype,
            conv_general_dilated=self.conv,
        )
        # Zeros on both sides of each axis, where SAME would put them all behind with a stride.
        first = convolve((3, 3), strides=self.stride, padding=1, name="conv1")
        y = self.norm(first(x), train=train, name="norm1")
        y = activate(name="activation1")(y)
        if self.dropout:
            y = Dropout(self.dropout, self.axis_name, self.dropout_kind, name="dropout")(
                y, train=train
            )
        y = convolve((3, 3), name="conv2")(y)
        y = self.norm(y, train=train, name="norm2")
        if self.shortcut == "none":
            return activate(name="activation2")(y)
        if self.skipped:
            y = Dropout(self.skipped, self.axis_name, "example", name="skip")(y, train=train)
        if x.shape != y.shape and self.shortcut == "projection":
            x = convolve((1, 1), strides=self.stride, padding="VALID", name="projection")(x)
            x = self.norm(x, train=train, name="projection_norm")
        elif x.shape != y.shape:
            x = x[:, :: self.stride, :: self.stride]
            x = jnp.pad(x, [(0, 0)] * 3 + [(0, self.filters - x.shape[-1])])
        return activate(name="activation2")(x + y)


class ResNet(nn.Module):
    """The residual network of He et al. (2016) for CIFAR-10, by default with 20 layers.

    A convolution, stages of residual blocks, each stage but the first with half the pixels of the
    one before, the mean of each channel, and an output layer. 6n + 2 layers have n blocks a stage;
    4 times the filters make a wide network (Zagoruyko and Komodakis, 2016, without their order of
    layers).

    Attributes:
        num_classes: number of logits.
        stages: number of residual blocks of each stage.
        filters: number of filters of each stage; not falling.
        shortcut: how a block's input gets to its output: "pad", "projection" or "none", see
            `flaxlab.models.resnet.ResidualBlock`.
        activation: function after each convolution, see `flaxlab.models.blocks.ACTIVATIONS`.
        kernel_init: initial values of all kernels, see `flaxlab.models.blocks.INITIALIZERS`.
        standardize_kernels: whether the kernels of convolutions are standardized, see
            `flaxlab.models.norm.Standardized`.
        norm: normalization after each convolution, see `flaxlab.models.Norm`. With "none" the
            convolutions have biases.
        norm_groups: number of groups of channels, for "group".
        norm_epsilon: added to the variance; He et al. do not state it, and Caffe has 1e-5.
        batch_norm_momentum: share of the old running statistics that a step keeps.
        branch_dropout: share of the values between the two convolutions of a block that training
            sets to zero (Zagoruyko and Komodakis, 2016).
        branch_dropout_kind: what it drops: "element", "channel" or "region", see
            `flaxlab.models.Dropout`; regions have sides of 3 pixels.
        stochastic_depth: share of the examples for which training leaves out the convolutions of
            the last block; it grows in proportion to the block's number. Huang et al. (2016) draw
            once for a whole batch, and scale in evaluation what is scaled in training here.
        dtype: dtype of the computation, see `flaxlab.models.ConvNet`.
        axis_name: the mapped axis that cuts the batch under `pmap`, if there is one.
        conv: computes the convolutions; called as `lax.conv_general_dilated`.
    """

    num_classes: int
    stages: tuple[int, ...] = (3, 3, 3)
    filters: tuple[int, ...] = (16, 32, 64)
    shortcut: str = "pad"
    activation: str = "relu"
    kernel_init: str = "he_normal"
    standardize_kernels: bool = False
    norm: str = "batch"
    norm_groups: int = 8
    norm_epsilon: float = 1e-5
    batch_norm_momentum: float = 0.9
    branch_dropout: float = 0.0
    branch_dropout_kind: str = "element"
    stochastic_depth: float = 0.0
    dtype: str = "float32"
    axis_name: str | None = None
    conv: Callable[..., jax.Array] = lax.conv_general_dilated

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images to logits; see `flaxlab.models.ConvNet`."""
        dtype = jnp.dtype(self.dtype)
        norm = Norm(
            self.norm,
            groups=self.norm_groups,
            momentum=self.batch_norm_momentum,
            epsilon=self.norm_epsilon,
            axis_name=self.axis_name,
            dtype=dtype,
        )
        conv = Standardized(self.conv) if self.standardize_kernels else self.conv
        kernel_init = INITIALIZERS[self.kernel_init]
        x = nn.Conv(
            self.filters[0],
            (3, 3),
            use_bias=self.norm == "none",
            kernel_init=kernel_init,
            dtype=dtype,
            conv_general_dilated=conv,
            name="conv",
        )(images.astype(dtype))
        x = Activation(self.activation, name="activation")(norm(x, train=train, name="norm"))
        places = [(stage, block) for stage, n in enumerate(self.stages) for block in range(n)]
        for number, (stage, block) in enumerate(places, start=1):
            x = ResidualBlock(
                filters=self.filters[stage],
                stride=2 if stage and not block else 1,
                shortcut=self.shortcut,
                activation=self.activation,
                kernel_init=self.kernel_init,
                norm=norm,
                dropout=self.branch_dropout,
                dropout_kind=self.branch_dropout_kind,
                skipped=self.stochastic_depth * number / len(places),
                dtype=dtype,
                conv=conv,
                axis_name=self.axis_name,
                name=f"stage{stage + 1}_block{block + 1}",
            )(x, train=train)
        x = HeadInput("average", name="head_input")(x)
        logits = nn.Dense(self.num_classes, kernel_init=kernel_init, dtype=dtype, name="output")(x)
        return logits.astype(jnp.promote_types(dtype, jnp.float32))
