"""The training loop: for each batch the pure step, for each epoch a score and a row.

Whatever else a run does between two steps (show, save, stop, measure) is a hook, and the loop knows
nothing about it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from flaxlab.batches.feed import Feed
from flaxlab.batches.run_feeds import Feeds
from flaxlab.models.batch_statistics import Moments, no_moments, statistics_of
from flaxlab.training.experiment import Experiment
from flaxlab.training.metrics import History, Metrics, Row, means, no_metrics, stops_early
from flaxlab.training.optimizer import last_rate
from flaxlab.training.programs import EvalProgram, MomentsProgram, Programs, TrainProgram
from flaxlab.training.state import TrainState


@dataclass(frozen=True)
class Progress:
    """How far an epoch, counted from 1, has come: the steps taken in it, and their metrics."""

    epoch: int
    steps: int
    totals: Metrics

    @classmethod
    def beginning(cls, epoch: int) -> Progress:
        """Returns the beginning of an epoch."""
        return cls(epoch, 0, no_metrics())


class Start(NamedTuple):
    """Where a run begins or resumes: its state, complete epochs, and progress in the next one."""

    state: TrainState
    history: History
    progress: Progress


@dataclass(frozen=True)
class Scores:
    """Scores of a model on a split: mean cross entropy in nats and share of correct predictions.

    The logits are float32 (N, classes), the labels int32 (N,), in the order of the split.
    """

    loss: float
    accuracy: float
    logits: np.ndarray
    labels: np.ndarray


class Hooks:
    """Called between the steps; these do nothing. Each may raise, which ends the loop."""

    def after_step(self, state: TrainState, progress: Progress) -> None:
        """Called after each call of the training program, with a state valid until the next."""

    def after_batch(self, totals: Metrics | Moments) -> None:
        """Called after each call of a program that trains nothing, with its sums so far."""

    def timed(self, row: Row) -> Row:
        """Returns the row of an epoch with its seconds and images per second."""
        return row

    def after_epoch(self, state: TrainState, history: History) -> None:
        """Called after each epoch, with its row at the end of the history."""


NO_HOOKS = Hooks()


def train_epoch(
    train: TrainProgram, state: TrainState, feed: Feed, seed: int, progress: Progress, hooks: Hooks
) -> tuple[TrainState, Progress]:
    """Trains on the remaining batches of an epoch. Reuses the memory of `state`."""
    steps, totals = progress.steps, feed.devices.put(progress.totals)
    with contextlib.closing(feed.train_batches(seed, progress.epoch, steps)) as batches:
        for batch in batches:
            state, totals = train(state, totals, batch)
            steps += len(batch["mask"])  # several batches may be stacked for one call
            progress = Progress(progress.epoch, steps, totals)
            hooks.after_step(state, progress)
    return state, progress


def score(evaluate: EvalProgram, state: TrainState, feed: Feed, hooks: Hooks = NO_HOOKS) -> Scores:
    """Scores every example of a feed.

    Raises:
        ValueError: the feed stacks several batches under `pmap`.
    """
    if feed.devices.mapped and feed.stacked != 1:
        raise ValueError("under pmap, scoring takes a feed of one batch at a time")
    totals, logits = feed.devices.put(no_metrics()), []
    with contextlib.closing(feed.eval_batches()) as batches:
        for batch in batches:
            totals, found = evaluate(state, totals, batch)
            logits.append(found)
            hooks.after_batch(totals)
    # Under `pmap`, logits have an axis for the devices.
    rows = [each.reshape(-1, each.shape[-1]) for each in jax.device_get(logits)]
    whole = np.concatenate(rows)[: len(feed.split)]
    scored = means(totals)
    return Scores(scored["loss"], scored["accuracy"], whole, feed.split.labels)


def with_statistics(
    program: MomentsProgram, state: TrainState, feed: Feed, hooks: Hooks = NO_HOOKS
) -> TrainState:
    """Returns a state whose scored parameters have the statistics of a feed's examples.

    The feed's batches are whole ones: padding examples would count as others do.
    """
    put = feed.devices.put
    totals = put(no_moments(state.batch_stats))
    with contextlib.closing(feed.eval_batches()) as batches:
        for batch in batches:
            totals, _ = program(state, totals, batch)
            hooks.after_batch(totals)
    return state.scoring({**state.scored, "batch_stats": put(statistics_of(totals))})


def fit(
    experiment: Experiment,
    programs: Programs,
    feeds: Feeds,
    start: Start,
    hooks: Hooks = NO_HOOKS,
) -> tuple[TrainState, History, Scores | None]:
    """Trains from `start` to the last epoch. Reuses the memory of its state.

    A run that was stopped and started again ends with the same bits as one that never stopped.

    Returns:
        The state, one row an epoch, and the scores after the last epoch; None instead of scores
        if nothing was left to train.
    """
    config, scores = experiment.config, None
    state, history, progress = start
    while not finished(config.train, history):
        state, progress = train_epoch(
            programs.train, state, feeds.train, config.seed, progress, hooks
        )
        if feeds.statistics is not None:
            assert programs.moments is not None
            state = with_statistics(programs.moments, state, feeds.statistics, hooks)
        scores = score(programs.evaluate, state, feeds.validation, hooks)
        history = [*history, hooks.timed(_row(experiment, state, progress, scores))]
        hooks.after_epoch(state, history)
        progress = Progress.beginning(len(history) + 1)
    return state, history, scores


def finished(train: ConfigDict, history: History) -> bool:
    """Returns whether nothing is left to train, by `config.train`."""
    return len(history) >= train.epochs or stops_early(
        history, train.early_stopping_patience, train.early_stopping_min_delta
    )


def _row(experiment: Experiment, state: TrainState, progress: Progress, scores: Scores) -> Row:
    trained = means(progress.totals)
    return Row(
        epoch=progress.epoch,
        train_loss=trained["loss"],
        train_accuracy=trained["accuracy"],
        val_loss=scores.loss,
        val_accuracy=scores.accuracy,
        learning_rate=last_rate(experiment.schedule, state),
        penalty=trained["penalty"],
        skipped_steps=int(progress.totals.skipped),
    )
