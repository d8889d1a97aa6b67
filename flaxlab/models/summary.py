"""The table of layers: shapes, parameters and FLOPs, read off the model without computing it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict


class LayerRow(NamedTuple):
    """One layer of a model.

    Attributes:
        path: path of its parameters, for example "block1/conv1".
        kind: class name, for example "Conv".
        shape: output shape for one image.
        trainable: number of values that the optimizer changes.
        running: number of values that batch normalization keeps as running statistics.
        flops: floating-point operations of the forward pass for one image, a multiplication and
            an addition counted as two; convolutions and dense layers only.
        momentum: share of its running statistics that batch normalization keeps in a step; 0 in
            other layers.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    trainable: int
    running: int
    flops: int
    momentum: float = 0.0


def count_trainable(layers: Iterable[LayerRow]) -> int:
    """Counts the values that the optimizer changes."""
    return sum(row.trainable for row in layers)


def count_parameters(layers: Iterable[LayerRow]) -> int:
    """Counts the parameters with the running statistics, as Keras does."""
    return sum(row.trainable + row.running for row in layers)


def trace_modules(
    model: nn.Module, image_shape: tuple[int, ...]
) -> tuple[dict[tuple[str, ...], tuple[nn.Module, tuple[int, ...]]], dict[str, Any]]:
    """Follows the calls of `model` on images (H, W, C), without computing anything.

    Returns:
        {path: (module, output shape for one image)} in the order in which the calls return: a
        block after the layers inside it, and the model itself, with path (), at the end. Then the
        variables, as `jax.ShapeDtypeStruct`s.

    Raises:
        ValueError: the images are too small for the model.
    """
    calls: dict[tuple[str, ...], tuple[nn.Module, tuple[int, ...]]] = {}

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        calls[context.module.path] = (context.module, output.shape[1:])
        return output

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(record):
        variables = jax.eval_shape(
            lambda key, x: model.init(key, x, train=False), jax.random.key(0), images
        )
    return calls, dict(variables)


def layer_table(model: nn.Module, image_shape: tuple[int, ...]) -> list[LayerRow]:
    """Lists the layers of `model` for images (H, W, C), in the order in which they are called.

    Raises:
        ValueError: the images are too small for the model.
    """
    calls, variables = trace_modules(model, image_shape)
    sizes = {
        collection: {path: leaf.shape for path, leaf in flatten_dict(tree).items()}
        for collection, tree in variables.items()
    }

    def count(collection: str, layer: tuple[str, ...]) -> int:
        leaves = sizes.get(collection, {}).items()
        return sum(math.prod(shape) for path, shape in leaves if path[:-1] == layer)

    def flops(layer: tuple[str, ...], shape: tuple[int, ...]) -> int:
        kernel = sizes["params"].get((*layer, "kernel"))
        if kernel is None:
            return 0
        positions = math.prod(shape[:-1])  # 1 for a dense layer
        return 2 * positions * math.prod(kernel)

    def is_container(path: tuple[str, ...]) -> bool:
        return any(len(other) > len(path) and other[: len(path)] == path for other in calls)

    # A block returns after the layers inside it, which keep their order.
    return [
        LayerRow(
            path="/".join(path),
            kind=type(module).__name__,
            shape=shape,
            trainable=count("params", path),
            running=count("batch_stats", path),
            flops=flops(path, shape),
            momentum=module.momentum if isinstance(module, nn.BatchNorm) else 0.0,
        )
        for path, (module, shape) in calls.items()
        if not is_container(path)
    ]
