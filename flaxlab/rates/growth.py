"""Trains with a growing learning rate, and reads the useful ones off the losses."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import optax

from flaxlab.config import ConfigDict, replaced
from flaxlab.data.dataset import Dataset
from flaxlab.errors import RunFailed
from flaxlab.training.experiment import Experiment, assemble
from flaxlab.training.metrics import means, no_metrics
from flaxlab.training.programs import compile_training

# A smoothed loss that is so many times its lowest ends the test: the run has diverged.
_DIVERGED = 4.0
# Weight of the losses before, in their running mean; and how many steps it takes to mean something.
_MEMORY, _FIRST_STEPS = 0.9, 10


@dataclass(frozen=True)
class RangeTest:
    """What the steps of a range test have shown.

    Attributes:
        rates: learning rate of each step, growing, float64 (steps,).
        losses: cross entropy of each batch before its step, in nats, float64 (steps,).
        smoothed: running mean of the losses, corrected for its start, float64 (steps,).
        diverged: whether the test ended early: the loss was not a number, or far above its lowest.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    diverged: bool

    @property
    def steepest(self) -> float | None:
        """The rate at which the smoothed loss falls fastest, per factor of the rate.

        None if there are too few steps, or the loss never falls.
        """
        if len(self.rates) < _FIRST_STEPS + 2:
            return None
        slopes = np.gradient(self.smoothed, np.log(self.rates))[_FIRST_STEPS:]
        if not np.nanmin(slopes) < 0:
            return None
        return float(self.rates[_FIRST_STEPS + np.nanargmin(slopes)])

    @property
    def largest(self) -> float | None:
        """The rate at which the smoothed loss is lowest: beyond it, it rises.

        None if that is the last one, so that larger rates may still do.
        """
        lowest = int(np.nanargmin(self.smoothed))
        return None if lowest == len(self.rates) - 1 else float(self.rates[lowest])


def range_test(
    config: ConfigDict, dataset: Dataset, low: float, high: float, steps: int
) -> RangeTest:
    """Takes up to `steps` steps, in which the learning rate grows from `low` to `high`.

    Args:
        config: resolved and validated; its schedule is replaced, its optimizer is kept.
        dataset: what `config.data` names.
        low: learning rate of the first step.
        high: learning rate of the last step.
        steps: number of steps, at least 2.

    Raises:
        UsageError: the experiment cannot be assembled, see `assemble`.
        RunFailed: the loss is not a number before the first step.
    """
    # One step a call, so that the loss of each is known; and nothing else that changes the rate.
    config = replaced(
        config,
        train={**config.train, "steps_per_execution": 1},
        optimizer={**config.optimizer, "schedule": "constant"},
    )
    growth = (high / low) ** (1 / (steps - 1))
    experiment = assemble(config, dataset, schedule=optax.exponential_decay(low, 1, growth))
    rates = low * growth ** np.arange(steps)
    found: list[float] = []
    smoothed: list[float] = []
    diverged = False
    with contextlib.closing(_losses(experiment)) as losses:
        for loss in itertools.islice(losses, steps):
            diverged = not math.isfinite(loss)
            if diverged:
                break
            found.append(loss)
            smoothed.append(_next_mean(smoothed, loss))
            diverged = smoothed[-1] > _DIVERGED * min(smoothed)
            if diverged:
                break
    if not found:
        raise RunFailed("the loss of the first batch is not a number: no learning rate helps")
    return RangeTest(rates[: len(found)], np.array(found), np.array(smoothed), diverged)


def _losses(experiment: Experiment) -> Generator[float]:
    """Trains, and yields the loss of each batch."""
    train = compile_training(experiment.train_step, experiment.devices)
    feed, put = experiment.feeds().train, experiment.devices.put
    state = put(experiment.create_state())
    for epoch in itertools.count(1):
        with contextlib.closing(feed.train_batches(experiment.config.seed, epoch, 0)) as batches:
            for batch in batches:
                state, totals = train(state, put(no_metrics()), batch)
                yield means(totals)["loss"]


def _next_mean(means: Sequence[float], value: float) -> float:
    """Returns the next of the running means, without the bias towards a start from zero."""
    count = len(means)
    sums = means[-1] * (1 - _MEMORY**count) if means else 0.0
    return (_MEMORY * sums + (1 - _MEMORY) * value) / (1 - _MEMORY ** (count + 1))
