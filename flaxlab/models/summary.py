"""The table of layers: shapes, parameters and FLOPs, read off the model without computing it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core.tracers import current_trace
from flax.traverse_util import flatten_dict

from flaxlab.models.settings import settings_of

_WHOLE = "(the network)"  # the path of what belongs to no layer


class LayerRow(NamedTuple):
    """One layer of a model.

    Attributes:
        path: path of its parameters, for example "block1/conv1"; "(the network)" for those that
            the model itself holds.
        kind: class name, for example "Conv".
        shape: output shape for one image.
        trainable: number of values that the optimizer changes.
        running: number of values that batch normalization keeps as running statistics.
        flops: floating-point operations of the forward pass for one image, a multiplication and
            an addition counted as two; convolutions and dense layers only.
        momentum: share of its running statistics that batch normalization keeps in a step; 0 in
            other layers.
        settings: what the layer is set to, see `flaxlab.models.settings.settings_of`.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    trainable: int
    running: int
    flops: int
    momentum: float = 0.0
    settings: str = ""


def count_trainable(layers: Iterable[LayerRow]) -> int:
    """Counts the values that the optimizer changes."""
    return sum(row.trainable for row in layers)


def count_parameters(layers: Iterable[LayerRow]) -> int:
    """Counts the parameters with the running statistics, as Keras does."""
    return sum(row.trainable + row.running for row in layers)


class Called(NamedTuple):
    """What a module is called with while a network computes one image.

    Attributes:
        module: the module, bound to its path.
        shape: shape of its output; of several outputs or calls, of the last array.
        values: number of values of its outputs in all calls; in the body of `nn.scan`, in one.
        single: whether its output is one array.
    """

    module: nn.Module
    shape: tuple[int, ...]
    values: int
    single: bool


def trace_modules(
    model: nn.Module, image_shape: tuple[int, ...]
) -> tuple[dict[tuple[str, ...], Called], dict[str, Any]]:
    """Follows the calls of `model` on images (H, W, C), without computing anything.

    Returns:
        {path: what is called there} in the order in which the calls return: a block after the
        layers inside it, and the model itself, with path (), at the end. Then the variables, as
        `jax.ShapeDtypeStruct`s.

    Raises:
        ValueError: the images are too small for the model.
    """
    calls: dict[tuple[str, ...], Called] = {}
    traces: dict[tuple[str, ...], Any] = {}

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        arrays = [leaf for leaf in jax.tree.leaves(output) if isinstance(leaf, jax.Array)]
        if context.method_name == "__call__" and arrays:  # not `setup`, which returns nothing
            path, trace = context.module.path, current_trace()
            # A loop's body is traced more than once: only calls in one trace add up.
            again = path in calls and traces[path] == trace
            traces[path] = trace
            values = sum(math.prod(array.shape[1:]) for array in arrays)
            values += calls[path].values if again else 0
            single = isinstance(output, jax.Array)
            calls[path] = Called(context.module, arrays[-1].shape[1:], values, single)
        return output

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(record):
        variables = jax.eval_shape(
            lambda key, x: model.init(key, x, train=False), jax.random.key(0), images
        )
    return calls, dict(variables)


def layer_table(model: nn.Module, image_shape: tuple[int, ...]) -> list[LayerRow]:
    """Lists the layers of `model` for images (H, W, C), in the order in which they are called.

    A block has a row of its own, after its layers, if it has settings, or values that none of them
    holds. The values of a module that is never called are those of the block around it.

    Raises:
        ValueError: the images are too small for the model.
    """
    calls, variables = trace_modules(model, image_shape)
    counts: defaultdict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
    for collection, tree in variables.items():
        for path, leaf in flatten_dict(tree).items():
            owner = next(path[:end] for end in range(len(path) - 1, -1, -1) if path[:end] in calls)
            counts[collection][owner] += sum(array.size for array in jax.tree.leaves(leaf))
    params = flatten_dict(variables.get("params", {}))

    def flops(layer: tuple[str, ...], called: Called) -> int:
        kernel = getattr(params.get((*layer, "kernel")), "shape", ())
        if not kernel:
            return 0
        # The output's values at one position, each a sum over the rest of the kernel.
        several = isinstance(called.module, nn.DenseGeneral)
        features = called.module.features if several else kernel[-1]
        return 2 * math.prod(kernel) * called.values // math.prod(np.atleast_1d(features).tolist())

    def is_container(path: tuple[str, ...]) -> bool:
        return any(len(other) > len(path) and other[: len(path)] == path for other in calls)

    # A block returns after the layers inside it, which keep their order.
    rows = [
        LayerRow(
            path="/".join(path) or _WHOLE,
            kind=type(called.module).__name__,
            shape=called.shape,
            trainable=counts["params"][path],
            running=counts["batch_stats"][path],
            flops=flops(path, called),
            momentum=called.module.momentum if isinstance(called.module, nn.BatchNorm) else 0.0,
            settings=settings_of(called.module),
        )
        for path, called in calls.items()
    ]
    return [
        row
        for row, path in zip(rows, calls, strict=True)
        if not is_container(path) or row.trainable or row.running or row.settings
    ]
