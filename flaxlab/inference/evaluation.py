"""Scores a stored model, with three kinds of statistics for its batch normalization."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxlab import kernels
from flaxlab.checkpoints.load import StoredModel, Variables
from flaxlab.data.dataset import Split
from flaxlab.data.pipeline import scale_pixels
from flaxlab.errors import UsageError
from flaxlab.models import ConvNet

KINDS = ("running", "batch", "recomputed")

# The order of the examples decides what a batch's own statistics are: a fixed random one, since
# the examples of a split may lie class by class.
_ORDER_SEED = 0


@dataclass(frozen=True)
class Evaluation:
    """Scores of one kind of statistics.

    Attributes:
        kind: one of `KINDS`.
        accuracy: share of correct predictions.
        loss: mean cross entropy in nats.
        predicted: int64 (N,), in the order of the split.
    """

    kind: str
    accuracy: float
    loss: float
    predicted: np.ndarray


def evaluate_stored(
    stored: StoredModel, test: Split, train: Split, kind: str, batch_size: int
) -> Evaluation:
    """Scores every example of a split once.

    Args:
        stored: the model.
        test: what is scored.
        train: what "recomputed" statistics are computed on.
        kind: "running": the stored running statistics; "batch": each batch's own; "recomputed":
            mean and variance over the whole of `train`, with the stored parameters.
        batch_size: number of images at a time.

    Raises:
        UsageError: the model has no batch normalization, and `kind` is not "running".
    """
    if kind != "running" and "batch_stats" not in stored.variables:
        raise UsageError(f"the model has no batch normalization: --batch_stats={kind} is nothing")
    config, batch_size = stored.config, min(batch_size, len(test))
    computed_by = kernels.for_backend(jax.default_backend(), config.train.fast_kernels)
    model = stored.model.clone(conv=computed_by.conv, max_pool=computed_by.max_pool)
    variables = jax.device_put(stored.variables)
    scaling = config.data.scaling
    if kind == "recomputed":
        statistics = recompute_statistics(model, variables, train, scaling, batch_size)
        variables = {**variables, "batch_stats": statistics}
    by_batch = _normalizing_by_batch(model)

    # The variables are an argument: closed over, they would become constants of the program, and
    # it would be compiled and kept anew, with all of them inside, for each checkpoint.
    @jax.jit
    def logits_of(variables: Variables, images: jax.Array) -> jax.Array:
        scaled = scale_pixels(images, scaling)
        logits: Any
        if kind == "batch":
            logits, _ = by_batch.apply(variables, scaled, train=True, mutable=["batch_stats"])
        else:
            logits = model.apply(variables, scaled, train=False)
        return logits

    logits = np.empty((len(test), len(stored.class_names)), np.float32)
    for indices, count in _batches(len(test), batch_size):
        found = np.asarray(logits_of(variables, test.images[indices]))
        logits[indices[:count]] = found[:count]
    normalizer = np.logaddexp.reduce(logits.astype(np.float64), axis=1)
    loss = normalizer - logits[np.arange(len(test)), test.labels]
    predicted = logits.argmax(axis=1)
    return Evaluation(kind, float(np.mean(predicted == test.labels)), float(loss.mean()), predicted)


def recompute_statistics(
    model: ConvNet, variables: Variables, split: Split, scaling: str, batch_size: int
) -> Variables:
    """Estimates the running statistics anew: exact mean and variance over batches of a split.

    Each layer is normalized by its batch's own statistics on the way, as in training. The variance
    is that over all examples: E[v + m^2] - E[m]^2 of the batches' means m and variances v.

    Args:
        model: with batch normalization.
        variables: its parameters, and statistics that are replaced.
        split: what to compute on; every example counts once.
        scaling: see `scale_pixels`.
        batch_size: number of images at a time.

    Returns:
        The new "batch_stats".
    """
    by_batch = _normalizing_by_batch(model)

    @jax.jit
    def moments(variables: Variables, images: jax.Array) -> Variables:
        scaled = scale_pixels(images, scaling)
        _, updated = by_batch.apply(variables, scaled, train=True, mutable=["batch_stats"])
        return jax.tree.map(
            lambda layer: {"mean": layer["mean"], "square": layer["var"] + layer["mean"] ** 2},
            updated["batch_stats"],
            is_leaf=lambda node: "mean" in node,
        )

    order = np.random.default_rng(_ORDER_SEED).permutation(len(split))
    sums: Variables | None = None
    for start in range(0, len(split), batch_size):
        indices = order[start : start + batch_size]
        # The last batch is smaller: weighted by its size, every example counts once.
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


def _normalizing_by_batch(model: ConvNet) -> ConvNet:
    """The model in training mode without dropout; its new statistics are the batch's alone."""
    return model.clone(block_dropout=(), head_dropout=(), batch_norm_momentum=0.0)


def _batches(examples: int, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields indices of batches of one size, and how many of them have not been there before.

    The last batch is filled up with examples from the beginning: blank images would change the
    statistics of the batch.
    """
    order = np.random.default_rng(_ORDER_SEED).permutation(examples)
    for start in range(0, examples, batch_size):
        indices = order[np.arange(start, start + batch_size) % examples]
        yield indices, min(batch_size, examples - start)
