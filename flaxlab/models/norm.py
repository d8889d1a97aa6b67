"""Normalization layers, and convolutions whose kernels are normalized."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

NORMS = ("batch", "group", "layer", "instance", "none")

# Under the square root of a kernel's variance: Kolesnikov et al. (2020), "Big Transfer".
_KERNEL_EPSILON = 1e-10


@dataclass(frozen=True)
class Norm:
    """A normalization, with a scale and an offset for each channel.

    Attributes:
        kind: which values share a mean and a variance. "batch": a channel's values in all examples;
            evaluation uses running statistics (Ioffe and Szegedy, 2015). The others look at each
            example alone. "layer": all its values (Ba et al., 2016; for images, as Wu and He define
            it). "group": the values of a group of neighbouring channels (Wu and He, 2018).
            "instance": the values of one channel (Ulyanov et al., 2016). "none": there is no layer.
        groups: number of groups of channels, for "group"; Wu and He take 32.
        momentum: share of the old running statistics that each step keeps, for "batch".
        epsilon: added to the variance; Keras's default.
        axis_name: the mapped axis that cuts the batch under `pmap`, if there is one.
        dtype: dtype of the computation; parameters and statistics stay float32.
    """

    kind: str = "batch"
    groups: int = 32
    momentum: float = 0.99
    epsilon: float = 1e-3
    axis_name: str | None = None
    dtype: DTypeLike = "float32"

    def __call__(self, x: jax.Array, *, train: bool, name: str = "norm") -> jax.Array:
        """Returns `x` (N, ..., C) normalized by a layer `name`; called inside a compact module.

        Raises:
            ValueError: the groups do not divide the channels, or a channel has one value only,
                which "instance" would make 0.
        """
        options: dict[str, Any] = {"epsilon": self.epsilon, "dtype": self.dtype, "name": name}
        match self.kind:
            case "none":
                return x
            case "batch":
                return nn.BatchNorm(
                    use_running_average=not train,
                    momentum=self.momentum,
                    axis_name=self.axis_name,
                    **options,
                )(x)
            case "layer":
                axes = tuple(range(1, x.ndim))
                return nn.LayerNorm(reduction_axes=axes, feature_axes=-1, **options)(x)
            case "group":
                if x.shape[-1] % self.groups:
                    raise ValueError(
                        f"{self.groups} groups do not divide the {x.shape[-1]} channels of a layer;"
                        " use a number of groups that divides all"
                    )
                return nn.GroupNorm(num_groups=self.groups, **options)(x)
            case "instance":
                if math.prod(x.shape[1:-1]) == 1:
                    raise ValueError(
                        "instance normalization makes a channel of one value 0; use another"
                        " normalization, larger images or smaller pools"
                    )
                return nn.InstanceNorm(**options)(x)
        raise ValueError(f"{self.kind!r} is not a normalization; use one of {', '.join(NORMS)}")


@dataclass(frozen=True)
class Standardized:
    """A convolution with standardized kernels: weight standardization (Qiao et al., 2019).

    The values of each filter get mean 0 and variance 1. The gradient goes through the mean and the
    variance to the kernel itself.

    Attributes:
        conv: computes the convolution; called as `lax.conv_general_dilated`.
    """

    conv: Callable[..., jax.Array]

    def __call__(
        self, images: jax.Array, kernel: jax.Array, *args: Any, **kwargs: Any
    ) -> jax.Array:
        """Convolves images (N, H, W, C) with a kernel (height, width, channels, filters).

        Raises:
            ValueError: the kernel has one value for each filter.
        """
        if math.prod(kernel.shape[:-1]) == 1:
            raise ValueError("a standardized kernel of one value is 0; use larger kernels")
        exact = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
        mean = jnp.mean(exact, axis=(0, 1, 2))
        var = jnp.var(exact, axis=(0, 1, 2))
        standard = (exact - mean) * jax.lax.rsqrt(var + _KERNEL_EPSILON)
        return self.conv(images, standard.astype(kernel.dtype), *args, **kwargs)
