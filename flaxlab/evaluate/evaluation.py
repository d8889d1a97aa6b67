"""Scores a stored model with one of three kinds of statistics for batch normalization."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from flaxlab import kernels, models
from flaxlab.batches.augment import scale_pixels
from flaxlab.batches.devices import one_device
from flaxlab.batches.feed import Batches, Feed
from flaxlab.batches.order import epoch_order
from flaxlab.data.dataset import Split
from flaxlab.errors import UsageError
from flaxlab.run.load import StoredModel, Variables, eval_state
from flaxlab.training.loop import score
from flaxlab.training.metrics import Metrics, batch_metrics
from flaxlab.training.programs import compile_evaluation
from flaxlab.training.state import TrainState
from flaxlab.training.step import Batch, EvalStep, make_eval_step, with_precision

KINDS = ("running", "batch", "recomputed")

# A batch's own statistics depend on the order of the examples. It is a fixed random one, since a
# split may be sorted by class.
_ORDER_SEED, _ORDER_EPOCH = 0, 0


@dataclass(frozen=True)
class Evaluation:
    """Scores with one kind of statistics.

    Attributes:
        kind: one of `KINDS`.
        accuracy: share of correct predictions.
        loss: mean cross entropy in nats.
        predicted: predicted labels, int64 (N,), in the order of the split.
    """

    kind: str
    accuracy: float
    loss: float
    predicted: np.ndarray


def evaluate_stored(
    stored: StoredModel, test: Split, train: Split, kind: str, batch_size: int
) -> Evaluation:
    """Scores every example of a split once, with the function that scores a run's epochs.

    Args:
        stored: the model.
        test: examples to score.
        train: examples for the "recomputed" statistics.
        kind: "running": the stored running statistics; "batch": each batch's own; "recomputed":
            mean and variance over all of `train`, with the stored parameters.
        batch_size: number of images at a time.

    Raises:
        UsageError: the model has no batch normalization, or statistics of another layer, but `kind`
            is not "running".
    """
    if kind != "running" and "batch_stats" not in stored.variables:
        raise UsageError(
            f"the model has no batch normalization: --batch_stats={kind} does not apply"
        )
    config, batch_size = stored.config, min(batch_size, len(test))
    functions = kernels.for_backend(jax.default_backend(), config.train.fast_kernels)
    model = models.computed_by(stored.model, conv=functions.conv, max_pool=functions.max_pool)
    variables = jax.device_put(stored.variables)
    scaling = config.data.scaling
    if kind == "recomputed":
        statistics = recompute_statistics(model, variables, train, scaling, batch_size)
        variables = {**variables, "batch_stats": statistics}
    preprocess = functools.partial(scale_pixels, scaling=scaling)
    devices = one_device()
    if kind == "batch":
        step = _make_batch_step(model, preprocess)
        feed: Feed = _Shuffled(test, batch_size, 1, devices, {})
        order = epoch_order(len(test), _ORDER_SEED, _ORDER_EPOCH)
    else:
        step = make_eval_step(model, preprocess)
        feed, order = Feed(test, batch_size, 1, devices, {}), np.arange(len(test))
    step = with_precision(step, config.train.matmul_precision)
    state = devices.put(eval_state(variables))
    scores = score(compile_evaluation(step, devices), state, feed)
    predicted = np.empty(len(test), np.int64)
    predicted[order] = scores.logits.argmax(axis=1)
    return Evaluation(kind, scores.accuracy, scores.loss, predicted)


class _Shuffled(Feed):
    """Yields examples in a fixed random order, and fills up the last batch with other examples.

    `Feed` repeats the last example, which would change the statistics of that batch.
    """

    def eval_batches(self) -> Generator[Batches]:
        return self.train_batches(_ORDER_SEED, _ORDER_EPOCH)


def _make_batch_step(model: nn.Module, preprocess: Callable[[jax.Array], jax.Array]) -> EvalStep:
    """Returns a step like `make_eval_step`'s, but with the statistics of the batch itself."""

    def batch_step(state: TrainState, batch: Batch) -> tuple[Metrics, jax.Array]:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        logits, _ = _apply_by_batch(model, variables, preprocess(batch["image"]))
        return batch_metrics(logits, batch["label"], batch["mask"]), logits

    return batch_step


def recompute_statistics(
    model: nn.Module, variables: Variables, split: Split, scaling: str, batch_size: int
) -> Variables:
    """Recomputes the running statistics as the exact mean and variance over a split.

    In each batch, layers are normalized by the batch's own statistics, as in training. The variance
    is that over all examples: E[v + m^2] - E[m]^2 of the batches' means m and variances v.

    Args:
        model: a model with batch normalization.
        variables: its parameters, and the statistics to replace.
        split: examples to compute on; each counts once.
        scaling: see `scale_pixels`.
        batch_size: number of images at a time.

    Returns:
        The new "batch_stats".
    """

    @jax.jit
    def moments(variables: Variables, images: jax.Array) -> Variables:
        _, found = _apply_by_batch(model, variables, scale_pixels(images, scaling))
        return jax.tree.map(
            lambda layer: {"mean": layer["mean"], "square": layer["var"] + layer["mean"] ** 2},
            found,
            is_leaf=lambda node: "mean" in node,
        )

    order = np.random.default_rng(_ORDER_SEED).permutation(len(split))
    sums: Variables | None = None
    for start in range(0, len(split), batch_size):
        indices = order[start : start + batch_size]
        # The last batch is smaller: weighted by size, every example counts once.
        weight = len(indices) / len(split)
        found = moments(variables, split.images[indices])
        weighted = jax.tree.map(functools.partial(jnp.multiply, weight), found)
        sums = weighted if sums is None else jax.tree.map(jnp.add, sums, weighted)
    return jax.tree.map(
        lambda layer: {
            "mean": layer["mean"],
            "var": jnp.maximum(layer["square"] - layer["mean"] ** 2, 0.0),
        },
        sums,
        is_leaf=lambda node: "mean" in node,
    )


def _apply_by_batch(
    model: nn.Module, variables: Variables, images: jax.Array
) -> tuple[jax.Array, Variables]:
    """Applies a model as in training, but without dropout.

    Returns:
        Logits, and the "batch_stats" of this batch alone.
    """
    calls, _ = models.trace_modules(model, images.shape[1:])
    kept = {path[:-1] for path in flatten_dict(variables["batch_stats"])}
    momenta = {
        path: module.momentum
        for path, (module, _) in calls.items()
        if isinstance(module, nn.BatchNorm)
    }

    if others := kept - momenta.keys():
        names = ", ".join("/".join(path) or "the network itself" for path in sorted(others))
        raise UsageError(
            f"the statistics of {names} are not those of flax.linen.BatchNorm, and only these can"
            " be taken from batches; use --batch_stats=running"
        )

    def without_dropout(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        dropout = isinstance(context.module, nn.Dropout | models.Dropout)
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
    return logits, unflatten_dict(found)
