"""Scores a stored model with one of three kinds of statistics for batch normalization."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from dataclasses import dataclass

import flax.linen as nn
import jax
import numpy as np

from flaxlab import kernels, models
from flaxlab.batches.augment import over_flips, scale_pixels
from flaxlab.batches.devices import one_device
from flaxlab.batches.feed import Batches, Feed
from flaxlab.batches.order import epoch_order
from flaxlab.batches.run_feeds import eval_feed
from flaxlab.data.dataset import Split
from flaxlab.errors import UsageError
from flaxlab.kernels.precision import with_precision
from flaxlab.models.batch_statistics import Moments, apply_by_batch, no_moments, statistics_of
from flaxlab.run.load import StoredModel, eval_state
from flaxlab.training.loop import score
from flaxlab.training.metrics import Metrics, batch_metrics
from flaxlab.training.programs import compile_evaluation
from flaxlab.training.state import Params, TrainState, Variables
from flaxlab.training.step import Batch, EvalStep, make_eval_step

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
    stored: StoredModel,
    test: Split,
    train: Split,
    kind: str,
    batch_size: int | None = None,
    flips: bool = False,
) -> Evaluation:
    """Scores every example of a split once, with the function that scores a run's epochs.

    Args:
        stored: the model.
        test: examples to score.
        train: examples for the "recomputed" statistics.
        kind: "running": the stored running statistics; "batch": each batch's own; "recomputed":
            mean and variance over all of `train`, with the stored parameters.
        batch_size: number of images at a time; None: that of the run's training, or more where an
            accelerator holds all of `test`, see `eval_feed`.
        flips: whether to take the mean of the logits of an image and of its mirror image.

    Raises:
        UsageError: the model has no batch normalization, or statistics of another layer, but `kind`
            is not "running".
    """
    if kind != "running" and "batch_stats" not in stored.variables:
        raise UsageError(
            f"the model has no batch normalization: --batch_stats={kind} does not apply"
        )
    config, size = stored.config, min(batch_size or stored.config.train.batch_size, len(test))
    functions = kernels.for_backend(jax.default_backend(), config.train.fast_kernels)
    model = models.computed_by(stored.model, **functions._asdict())
    variables = jax.device_put(stored.variables)
    scaling = config.data.scaling
    if kind == "recomputed":
        recompute = with_precision(recompute_statistics, config.train.matmul_precision)
        statistics = recompute(model, variables, train, scaling, size)
        variables = {**variables, "batch_stats": statistics}
    preprocess = functools.partial(scale_pixels, scaling=scaling)
    devices = one_device()
    if kind == "batch":
        step = _make_batch_step(model, preprocess, flips)
        feed: Feed = _Shuffled(test, size, 1, devices, {})
        order = epoch_order(len(test), _ORDER_SEED, _ORDER_EPOCH)
    else:
        step = make_eval_step(model, preprocess, flips)
        feed, order = eval_feed(config, test, devices, batch_size and size), np.arange(len(test))
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


def _make_batch_step(
    model: nn.Module, preprocess: Callable[[jax.Array], jax.Array], flips: bool
) -> EvalStep:
    """Returns a step like `make_eval_step`'s, but with the statistics of the batch itself."""

    def batch_step(state: TrainState, batch: Batch) -> tuple[Metrics, jax.Array]:
        def compute(images: jax.Array) -> jax.Array:
            return apply_by_batch(model, state.scored, images)[0]

        logits = over_flips(compute, flips)(preprocess(batch["image"]))
        return batch_metrics(logits, batch["label"], batch["mask"]), logits

    return batch_step


def recompute_statistics(
    model: nn.Module, variables: Variables, split: Split, scaling: str, batch_size: int
) -> Params:
    """Recomputes the running statistics as the exact mean and variance over a split.

    In each batch, layers are normalized by the batch's own statistics, as in training.

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
    def moments(variables: Variables, images: jax.Array) -> Moments:
        return apply_by_batch(model, variables, scale_pixels(images, scaling))[1]

    order = np.random.default_rng(_ORDER_SEED).permutation(len(split))
    totals = no_moments(variables["batch_stats"])
    for start in range(0, len(split), batch_size):
        # The last batch is smaller: every example counts once.
        indices = order[start : start + batch_size]
        totals += moments(variables, split.images[indices])
    return statistics_of(totals)
