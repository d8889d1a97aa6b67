"""The statistics of batch normalization for given parameters, estimated over batches.

Wu and Johnson (2021), "Rethinking 'Batch' in BatchNorm", call this precise batch normalization, and
find thousands of examples to be enough. Averages of parameters need it (Izmailov et al., 2018,
"Averaging weights leads to wider optima and better generalization").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from flax.typing import Collection, VariableDict

from flaxlab.errors import UsageError
from flaxlab.models.dropout import Dropout

_DROPOUT = nn.Dropout | Dropout


class Moments(flax.struct.PyTreeNode):
    """Sums over examples of what the normalizations of a network see; `+` merges two of them.

    Attributes:
        mean: {path: float32 (channels,)}, sum of the means.
        square: the same for the means of squares.
        count: int32 scalar, number of examples.
    """

    mean: dict[Any, jax.Array]
    square: dict[Any, jax.Array]
    count: jax.Array

    def __add__(self, other: Moments) -> Moments:
        return jax.tree.map(jnp.add, self, other)


def no_moments(batch_stats: Collection) -> Moments:
    """Returns the moments of no example, of layers with these statistics."""
    zeros = {path: jnp.zeros_like(mean) for path, mean in _leaves(batch_stats, "mean").items()}
    return Moments(mean=zeros, square=dict(zeros), count=jnp.zeros((), jnp.int32))


def batch_moments(batch_stats: Collection, examples: int) -> Moments:
    """Returns the moments of a batch, from its statistics."""
    means, variances = (_leaves(batch_stats, name) for name in ("mean", "var"))
    return Moments(
        mean={path: examples * mean for path, mean in means.items()},
        square={path: examples * (variances[path] + means[path] ** 2) for path in means},
        count=jnp.array(examples, jnp.int32),
    )


def statistics_of(moments: Moments) -> dict[str, Any]:
    """Returns the mean and the variance over all examples, as "batch_stats".

    With the batches' means m and variances v, the variance is E[v + m^2] - E[m]^2.
    """
    means = {path: total / moments.count for path, total in moments.mean.items()}
    found = {(*path, "mean"): mean for path, mean in means.items()}
    for path, total in moments.square.items():
        found[*path, "var"] = jnp.maximum(total / moments.count - means[path] ** 2, 0.0)
    return unflatten_dict(found)


def _leaves(batch_stats: Collection, name: str) -> dict[Any, jax.Array]:
    leaves = flatten_dict(batch_stats).items()
    return {path[:-1]: leaf for path, leaf in leaves if path[-1] == name}


def apply_by_batch(
    model: nn.Module, variables: VariableDict, images: jax.Array
) -> tuple[jax.Array, Moments]:
    """Applies a model as in training, but without dropout.

    Returns:
        Logits, and the moments of this batch.

    Raises:
        UsageError: see `momenta_of`.
    """
    momenta = momenta_of(model, images.shape[1:])

    def without_dropout(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        dropout = isinstance(context.module, _DROPOUT)
        return args[0] if dropout and context.method_name == "__call__" else call(*args, **kwargs)

    # Of statistics that are 0, a step keeps nothing, and adds (1 - momentum) of the batch's.
    nothing = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
    with nn.intercept_methods(without_dropout):
        logits, updated = model.apply(
            {**variables, "batch_stats": nothing},
            images,
            train=True,
            rngs={"dropout": jax.random.key(0)},  # for layers that draw, and are no dropout
            mutable=["batch_stats"],
        )
    found = {
        path: value / (1 - momenta[path[:-1]])
        for path, value in flatten_dict(updated["batch_stats"]).items()
    }
    return logits, batch_moments(unflatten_dict(found), len(images))


def momenta_of(model: nn.Module, image_shape: tuple[int, ...]) -> dict[tuple[str, ...], float]:
    """Returns the momentum of each batch normalization of a model, by path; each is called once.

    Raises:
        UsageError: the model keeps other statistics, which cannot be taken from batches.
    """
    momenta: dict[tuple[str, ...], float] = {}

    def note(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        if isinstance(module, nn.BatchNorm):
            given = kwargs.get("use_running_average", args[1] if len(args) > 1 else None)
            frozen = module.use_running_average if given is None else given
            if not frozen and module.momentum < 1:
                momenta[module.path] = module.momentum
        # Not called, since both need the axis of `pmap`, if there is one.
        passed = isinstance(module, nn.BatchNorm | _DROPOUT)
        return args[0] if passed else call(*args, **kwargs)

    def apply(key: jax.Array, images: jax.Array) -> Collection:
        variables = model.init(key, images, train=False)
        keys = {"dropout": key}
        with nn.intercept_methods(note):
            model.apply(variables, images, train=True, rngs=keys, mutable=["batch_stats"])
        return variables.get("batch_stats", {})

    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    batch_stats = jax.eval_shape(apply, jax.eval_shape(lambda: jax.random.key(0)), images)
    kept = {path[:-1] for path in flatten_dict(batch_stats)}
    if others := kept - momenta.keys():
        names = ", ".join("/".join(path) or "the network itself" for path in sorted(others))
        raise UsageError(
            f"the statistics of {names} are not those that a flax.linen.BatchNorm learns in"
            " training, and only these can be estimated over batches; use --batch_stats=running,"
            " and no average of the parameters (train.ema_decay, schedule_free)"
        )
    return momenta
