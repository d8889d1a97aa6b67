"""AlexNet and VGG as the lab report has them: one forward pass, two sets of defaults.

The fields of `AlexNet` and `VGG` are the ablations: `flaxlab.config` makes a knob of each
(`--config.model.norm=none`). Layer sizes are those of the lab report (a Keras course
exercise), which follow Krizhevsky et al. (2012) and Simonyan and Zisserman (2015) loosely.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from flaxlab.models.blocks import INITIALIZERS, ConvBlock, DenseBlock, HeadInput
from flaxlab.models.norm import Norm

Convs = tuple[tuple[int, int], ...]


class ConvNet(nn.Module):
    """Convolution blocks, a flattened dense head, and an output layer that returns logits.

    Attributes:
        num_classes: number of logits.
        blocks: for each block, the (filters, kernel side) of its convolutions.
        padding: "SAME" or "VALID", for all convolutions.
        pools: (window, stride) of each block's pooling, in pixels.
        strides: stride of each block's first convolution, in pixels; () for 1.
        block_activation: function after each convolution: "relu", "gelu", "silu", "elu",
            "leaky_relu" or "tanh", see `flaxlab.models.blocks.ACTIVATIONS`.
        kernel_init: initial values of all kernels: "glorot_uniform", "he_normal", "lecun_normal" or
            "orthogonal", see `flaxlab.models.blocks.INITIALIZERS`.
        standardize_kernels: whether the kernels of convolutions are standardized, see
            `flaxlab.models.norm.Standardized`.
        pool_kind: what each block pools by: "max", "avg", "conv" or "blur", see
            `flaxlab.models.Pool`.
        norm: normalization of each block: "batch", "group", "layer", "instance" or "none", see
            `flaxlab.models.Norm`.
        norm_place: where the normalization is: "after_pool", or "before_activation" or
            "after_activation" of each convolution; in the head the former two are the same. See
            `flaxlab.models.blocks.NORM_PLACES`.
        norm_groups: number of groups of channels, for "group".
        norm_epsilon: added to the variance; Keras's default.
        batch_norm_momentum: share of the old running statistics that a step keeps. Keras's
            default of 0.99 needs about 600 steps to settle: use 0.9 for short runs.
        block_dropout: dropout rate of each block; () for none.
        block_dropout_kind: what it drops: "element", "channel" or "region", see
            `flaxlab.models.Dropout`.
        block_dropout_region: side of the squares that "region" drops, in pixels.
        dropout_place: where dropout is: "after_norm", at the end of a block or a hidden dense
            layer, or "before_norm", see `flaxlab.models.blocks.DROPOUT_PLACES`.
        head_input: what the head gets of the last block: "flatten", all values, or "average", the
            mean of each channel (Lin et al., 2014).
        head_units: features of each hidden dense layer; () for none.
        head_activation: the same as `block_activation`, after each hidden dense layer.
        head_norm: the same as `norm`, of each hidden dense layer; not "instance".
        head_dropout: dropout rate of each hidden dense layer; () for none.
        dtype: dtype of the computation, "float32" or "bfloat16". Parameters, running statistics and
            logits are float32 with either. "float64" is for references, with `jax_enable_x64`:
            logits are float64 then.
        axis_name: the mapped axis that cuts the batch under `pmap`, if there is one: batch
            statistics and dropout masks are those of the whole batch.
        conv: computes the convolutions; called as `lax.conv_general_dilated`.
        max_pool: computes max pooling; called as `flax.linen.max_pool`.
        dot_general: computes the products of dense layers; called as `lax.dot_general`.
    """

    num_classes: int
    blocks: tuple[Convs, ...]
    padding: str
    pools: tuple[tuple[int, int], ...]
    strides: tuple[int, ...] = ()
    block_activation: str = "relu"
    kernel_init: str = "glorot_uniform"
    standardize_kernels: bool = False
    pool_kind: str = "max"
    norm: str = "batch"
    norm_place: str = "after_pool"
    norm_groups: int = 32
    norm_epsilon: float = 1e-3
    batch_norm_momentum: float = 0.99
    block_dropout: tuple[float, ...] = ()
    block_dropout_kind: str = "element"
    block_dropout_region: int = 3
    dropout_place: str = "after_norm"
    head_input: str = "flatten"
    head_units: tuple[int, ...] = (4096, 4096)
    head_activation: str = "relu"
    head_norm: str = "none"
    head_dropout: tuple[float, ...] = (0.5, 0.5)
    dtype: str = "float32"
    axis_name: str | None = None
    conv: Callable[..., jax.Array] = lax.conv_general_dilated
    max_pool: Callable[..., jax.Array] = nn.max_pool
    dot_general: Callable[..., jax.Array] = lax.dot_general

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images to logits.

        Args:
            images: floats (N, H, W, C), already scaled.
            train: normalize by the batch and drop values (needs the "dropout" key and mutable
                "batch_stats") instead of using the running statistics.

        Returns:
            Logits (N, num_classes), float32 unless `dtype` is float64.

        Raises:
            ValueError: the images are too small for a kernel or a pooling window.
        """
        dtype = jnp.dtype(self.dtype)
        norm = functools.partial(
            Norm,
            groups=self.norm_groups,
            momentum=self.batch_norm_momentum,
            epsilon=self.norm_epsilon,
            axis_name=self.axis_name,
            dtype=dtype,
        )
        x = images.astype(dtype)
        block_dropout = self.block_dropout or (0.0,) * len(self.blocks)
        strides = self.strides or (1,) * len(self.blocks)
        for index, convs in enumerate(self.blocks):
            x = ConvBlock(
                convs=convs,
                stride=strides[index],
                padding=self.padding,
                pool=self.pools[index],
                activation=self.block_activation,
                standardize=self.standardize_kernels,
                pool_kind=self.pool_kind,
                norm=norm(self.norm),
                dropout=block_dropout[index],
                dropout_kind=self.block_dropout_kind,
                dropout_region=self.block_dropout_region,
                conv=self.conv,
                max_pool=self.max_pool,
                kernel_init=self.kernel_init,
                norm_place=self.norm_place,
                dropout_place=self.dropout_place,
                dtype=dtype,
                axis_name=self.axis_name,
                name=f"block{index + 1}",
            )(x, train=train)
        x = HeadInput(self.head_input, name="head_input")(x)
        head_dropout = self.head_dropout or (0.0,) * len(self.head_units)
        for index, features in enumerate(self.head_units):
            x = DenseBlock(
                features=features,
                activation=self.head_activation,
                norm=norm(self.head_norm),
                dropout=head_dropout[index],
                kernel_init=self.kernel_init,
                norm_place=self.norm_place,
                dropout_place=self.dropout_place,
                dot_general=self.dot_general,
                dtype=dtype,
                axis_name=self.axis_name,
                name=f"head{index + 1}",
            )(x, train=train)
        logits = nn.Dense(
            self.num_classes,
            kernel_init=INITIALIZERS[self.kernel_init],
            dtype=dtype,
            dot_general=self.dot_general,
            name="output",
        )(x)
        return logits.astype(jnp.promote_types(dtype, jnp.float32))


class AlexNet(ConvNet):
    """The lab report's AlexNet: 11x11, 5x5 and three 3x3 convolutions, and a tanh head."""

    blocks: tuple[Convs, ...] = (((96, 11),), ((256, 5),), ((256, 3), (384, 3), (384, 3)))
    padding: str = "VALID"
    pools: tuple[tuple[int, int], ...] = ((3, 1), (3, 1), (3, 1))
    head_activation: str = "tanh"


class VGG(ConvNet):
    """The lab report's VGG: 13 convolutions of 3x3; the last two pools have stride 1."""

    blocks: tuple[Convs, ...] = (
        ((64, 3),) * 2,
        ((128, 3),) * 2,
        ((256, 3),) * 3,
        ((512, 3),) * 3,
        ((512, 3),) * 3,
    )
    padding: str = "SAME"
    pools: tuple[tuple[int, int], ...] = ((2, 2), (2, 2), (2, 2), (2, 1), (2, 1))
