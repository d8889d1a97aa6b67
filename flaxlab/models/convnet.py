"""AlexNet and VGG as the lab report has them: one forward pass, two sets of defaults.

The fields of `AlexNet` and `VGG` are the ablations: `flaxlab.config` makes a knob of each
(`--config.model.batch_norm=false`). Layer sizes are those of the lab report (a Keras course
exercise), which follow Krizhevsky et al. (2012) and Simonyan and Zisserman (2015) loosely.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from flaxlab.models.blocks import INITIALIZERS, ConvBlock, DenseBlock

Convs = tuple[tuple[int, int], ...]


class ConvNet(nn.Module):
    """Convolution blocks, a flattened dense head, and an output layer that returns logits.

    Attributes:
        num_classes: number of logits.
        blocks: for each block, the (filters, kernel side) of its convolutions.
        padding: "SAME" or "VALID", for all convolutions.
        pools: (window, stride) of each block's pooling, in pixels.
        strides: stride of each block's first convolution, in pixels; () for 1.
        block_activation: after each convolution: "relu", "gelu", "silu", "elu", "leaky_relu" or
            "tanh", see `flaxlab.models.blocks.ACTIVATIONS`.
        kernel_init: initial values of all kernels: "glorot_uniform", "he_normal", "lecun_normal" or
            "orthogonal", see `flaxlab.models.blocks.INITIALIZERS`.
        pool_kind: "max" or "avg".
        batch_norm: whether a normalization follows each block's pooling.
        batch_norm_momentum: share of the old running statistics that a step keeps. The Keras
            default of 0.99 needs about 600 steps to settle: use 0.9 for short runs.
        batch_norm_epsilon: added to the variance; Keras default.
        block_dropout: dropout rate after each block; () for none.
        head_units: features of each hidden dense layer.
        head_activation: the same as `block_activation`, after each hidden dense layer.
        head_batch_norm: whether a normalization follows each hidden dense layer.
        head_dropout: dropout rate after each hidden dense layer; () for none.
        dtype: dtype of the computation, "float32" or "bfloat16". Parameters, running statistics and
            logits are float32 with either. "float64" is for references, with `jax_enable_x64`:
            logits are float64 then.
        axis_name: the mapped axis that cuts the batch under `pmap`, if there is one: batch
            statistics and dropout masks are those of the whole batch.
        conv: computes the convolutions; called as `lax.conv_general_dilated`.
        max_pool: computes max pooling; called as `flax.linen.max_pool`.
    """

    num_classes: int
    blocks: tuple[Convs, ...]
    padding: str
    pools: tuple[tuple[int, int], ...]
    strides: tuple[int, ...] = ()
    block_activation: str = "relu"
    kernel_init: str = "glorot_uniform"
    pool_kind: str = "max"
    batch_norm: bool = True
    batch_norm_momentum: float = 0.99
    batch_norm_epsilon: float = 1e-3
    block_dropout: tuple[float, ...] = ()
    head_units: tuple[int, ...] = (4096, 4096)
    head_activation: str = "relu"
    head_batch_norm: bool = False
    head_dropout: tuple[float, ...] = (0.5, 0.5)
    dtype: str = "float32"
    axis_name: str | None = None
    conv: Callable[..., jax.Array] = lax.conv_general_dilated
    max_pool: Callable[..., jax.Array] = nn.max_pool

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
            nn.BatchNorm,
            momentum=self.batch_norm_momentum,
            epsilon=self.batch_norm_epsilon,
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
                kernel_init=self.kernel_init,
                pool_kind=self.pool_kind,
                norm=norm if self.batch_norm else None,
                dropout=block_dropout[index],
                dtype=dtype,
                conv=self.conv,
                max_pool=self.max_pool,
                axis_name=self.axis_name,
                name=f"block{index + 1}",
            )(x, train=train)
        x = x.reshape(x.shape[0], -1)
        head_dropout = self.head_dropout or (0.0,) * len(self.head_units)
        for index, features in enumerate(self.head_units):
            x = DenseBlock(
                features=features,
                activation=self.head_activation,
                kernel_init=self.kernel_init,
                norm=norm if self.head_batch_norm else None,
                dropout=head_dropout[index],
                dtype=dtype,
                axis_name=self.axis_name,
                name=f"head{index + 1}",
            )(x, train=train)
        kernel_init = INITIALIZERS[self.kernel_init]
        logits = nn.Dense(self.num_classes, kernel_init=kernel_init, dtype=dtype, name="output")(x)
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


MODELS: dict[str, type[ConvNet]] = {"alexnet": AlexNet, "vgg": VGG}

# Not choices of the experiment: they follow from the data, from how the step is mapped and from
# the machine that computes it.
_NOT_KNOBS = ("num_classes", "axis_name", "conv", "max_pool", "parent", "name")


def knobs(name: str) -> dict[str, Any]:
    """Returns the default of every field of the model `name` ("alexnet", "vgg")."""
    fields = MODELS[name].__dataclass_fields__
    return {key: field.default for key, field in fields.items() if key not in _NOT_KNOBS}


def build(knobs: Mapping[str, Any], num_classes: int, axis_name: str | None = None) -> ConvNet:
    """Builds the model `knobs["name"]` from its other knobs: `config.model`, unchanged."""
    fields = {key: value for key, value in knobs.items() if key != "name"}
    return MODELS[knobs["name"]](num_classes=num_classes, axis_name=axis_name, **fields)
