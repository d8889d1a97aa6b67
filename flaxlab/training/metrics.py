"""Sums and counts, never means of means: they add up over batches, devices and epochs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import optax

NEVER = jnp.iinfo(jnp.int32).max  # the value of `Metrics.nonfinite_step` for no such step


class Metrics(flax.struct.PyTreeNode):
    """Sums over examples and steps; `+` merges two of them.

    Attributes:
        loss: float32 scalar, sum of cross entropies in nats.
        correct: int32 scalar, number of examples whose largest logit is the label's.
        count: int32 scalar, number of examples.
        penalty: float32 scalar, sum over steps of the penalty on the kernels.
        steps: int32 scalar, number of training steps that count.
        skipped: int32 scalar, number of steps that changed nothing, since a number in them was
            NaN or infinite.
        nonfinite_step: int32 scalar, the first step, counted from 0, whose loss or gradients had a
            number that was NaN or infinite; the largest int32 if there was none. A number and not
            an exception, so that the host need not wait for the device after each step.
    """

    loss: jax.Array
    correct: jax.Array
    count: jax.Array
    penalty: jax.Array
    steps: jax.Array
    skipped: jax.Array
    nonfinite_step: jax.Array

    def __add__(self, other: Metrics) -> Metrics:
        added = jax.tree.map(jnp.add, self, other)
        first = jnp.minimum(self.nonfinite_step, other.nonfinite_step)
        return added.replace(nonfinite_step=first)


def no_metrics() -> Metrics:
    """Returns the metrics of no example: the neutral element of `+`."""
    return Metrics(
        loss=jnp.zeros(()),
        correct=jnp.zeros((), jnp.int32),
        count=jnp.zeros((), jnp.int32),
        penalty=jnp.zeros(()),
        steps=jnp.zeros((), jnp.int32),
        skipped=jnp.zeros((), jnp.int32),
        nonfinite_step=jnp.full((), NEVER, jnp.int32),
    )


def batch_metrics(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Metrics:
    """Scores one batch.

    Args:
        logits: float32 (N, classes).
        labels: int32 (N,).
        mask: bool (N,), false for examples that only pad the batch.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    correct = jnp.argmax(logits, axis=-1) == labels
    return no_metrics().replace(
        loss=jnp.sum(jnp.where(mask, losses, 0.0)),
        correct=jnp.sum(correct & mask, dtype=jnp.int32),
        count=jnp.sum(mask, dtype=jnp.int32),
    )


def means(metrics: Metrics) -> dict[str, float]:
    """Returns the mean loss, accuracy and penalty as Python numbers; waits for the device.

    NaN if nothing was counted because every step was skipped.
    """
    sums = jax.device_get(metrics)
    count = int(sums.count) or math.nan
    return {
        "loss": float(sums.loss) / count,
        "accuracy": int(sums.correct) / count,
        "penalty": float(sums.penalty) / max(int(sums.steps), 1),
    }


@dataclasses.dataclass(frozen=True)
class Row:
    """One epoch of a run. The fields are the columns of history.csv.

    Losses are mean cross entropies in nats, accuracies shares of correct predictions: of the
    training split over the epoch and in training mode, of the validation split after it. The
    penalty is a mean over the steps, and the learning rate that of the last step.

    `seconds` is how long the epoch took, with its validation and, in the first one of a process,
    with compiling, but without the save at its end. `images_per_second` is the speed of the
    training steps alone, without the first call of a process, which compiles, unless the epoch has
    no other.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float = math.nan
    penalty: float = 0.0
    images_per_second: float = math.nan
    skipped_steps: int = 0


History = list[Row]


def stops_early(history: Sequence[Row], patience: int, min_delta: float) -> bool:
    """Returns whether early stopping ends the run: `patience` epochs without a better one.

    Better means a validation accuracy more than `min_delta` above the best before it. A patience
    of 0 never stops. The result depends only on the history, so that a resumed run decides like
    one that never stopped.
    """
    if patience == 0:
        return False
    best, waited = float("-inf"), 0
    for row in history:
        if row.val_accuracy > best + min_delta:
            best, waited = row.val_accuracy, 0
        else:
            waited += 1
    return waited >= patience
