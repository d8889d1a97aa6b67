"""The training loop: it calls the pure steps, scores, saves, and knows nothing of plots."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from flaxlab import config as configs
from flaxlab import files
from flaxlab.data.dataset import Split
from flaxlab.data.pipeline import HostBatch, eval_batches, train_batches
from flaxlab.errors import RunFailed
from flaxlab.training import history as histories
from flaxlab.training.checkpoints import Checkpoints
from flaxlab.training.engine import Programs, compile_programs, evaluate
from flaxlab.training.experiment import Experiment
from flaxlab.training.history import History
from flaxlab.training.metrics import Metrics, first_nonfinite_step, means, no_metrics
from flaxlab.training.record import check_resumable, make_record
from flaxlab.training.state import TrainState

# Reading the running metrics makes the host wait for the device: not more often than this.
_TICK_SECONDS = 0.5

_ADVICE = "the checkpoints of earlier epochs are kept. Try a lower --config.optimizer.learning_rate"


class Observer(Protocol):
    """Someone who is told how a run goes on and cannot change it."""

    def run_started(self, experiment: Experiment, history: History) -> None:
        """Called once; `history` holds the epochs of an earlier start, if there was one."""

    def step_done(self, epoch: int, step: int, running: dict[str, float]) -> None:
        """Called now and then, `step` steps into an epoch, with its running means."""

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Called with the new row of the history."""

    def run_done(self) -> None:
        """Called once, also when the run ends by an exception."""


@dataclass(frozen=True)
class Scores:
    """How a trained model did on the split that the run reports.

    Attributes:
        epoch: whose parameters were scored: the last epoch's, or the best one's of a holdout.
        loss: mean cross entropy in nats.
        accuracy: share of correct predictions.
        logits: float32 (N, classes).
        labels: int32 (N,).
    """

    epoch: int
    loss: float
    accuracy: float
    logits: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class FitResult:
    """What `fit` returns.

    Attributes:
        state: after the last epoch.
        history: one row an epoch.
        test_scores: on the test split: after the last epoch, or, with a holdout, the best
            epoch's.
        programs: the compiled programs of this process.
    """

    state: TrainState
    history: History
    test_scores: Scores
    programs: Programs


def fit(experiment: Experiment, workdir: Path, observers: Sequence[Observer] = ()) -> FitResult:
    """Trains to the end of `config.train.epochs`, from wherever the run in `workdir` stands.

    After each epoch: score the validation split, add a row to the history, save. A run that was
    stopped and started again ends with the same bits as one that never stopped.

    Args:
        experiment: what to train, see `assemble`.
        workdir: run directory; "checkpoints/", "config.json", "history.csv" are written there.
        observers: told how the run goes on.

    Raises:
        UsageError: `workdir` holds a run with another config or other data.
        RunFailed: the loss was NaN or infinite; the checkpoints of earlier epochs are kept.
    """
    config = experiment.config
    programs = compile_programs(experiment.train_step, experiment.eval_step)
    workdir.mkdir(parents=True, exist_ok=True)
    with Checkpoints(workdir / "checkpoints", config.checkpoint.keep) as checkpoints:
        state, history = _start(experiment, checkpoints)
        state = programs.place(state)
        files.write_text(workdir / "config.json", configs.to_json(config) + "\n")
        files.write_text(workdir / "history.csv", histories.to_csv(history))
        if not _finished(config.train, history):
            # A summary says that a run is complete; this one is about to go on.
            (workdir / "summary.json").unlink(missing_ok=True)
        scores = None
        try:
            for observer in observers:
                observer.run_started(experiment, history)
            while not _finished(config.train, history):
                row, state, scores = _run_epoch(
                    experiment, programs, state, len(history) + 1, observers
                )
                history = [*history, row]
                record = make_record(config, experiment.dataset, history)
                # The best one first: a run that is killed in between repeats this epoch, and
                # never goes on with a history whose best epoch was not saved.
                if histories.best_row(history) is row:
                    checkpoints.save_best(state, record)
                checkpoints.save_latest(state, record)
                files.write_text(workdir / "history.csv", histories.to_csv(history))
                for observer in observers:
                    observer.epoch_done(row)
        finally:
            for observer in observers:
                observer.run_done()
        test_scores = _test_scores(experiment, programs, state, history, scores, checkpoints)
    return FitResult(state, history, test_scores, programs)


def _start(experiment: Experiment, checkpoints: Checkpoints) -> tuple[TrainState, History]:
    """Returns the initial state, or the latest one of the run that was started here before."""
    state = experiment.create_state()
    record = checkpoints.latest_record()
    if record is None:
        checkpoints.forget_best_after(0)
        return state, []
    check_resumable(record, experiment.config, experiment.dataset)
    state = checkpoints.restore_latest(state)
    checkpoints.forget_best_after(int(state.step))
    return state, record["history"]


def _finished(config: ConfigDict, history: History) -> bool:
    return len(history) >= config.epochs or histories.should_stop(
        history, config.early_stopping_patience, config.early_stopping_min_delta
    )


def _run_epoch(
    experiment: Experiment,
    programs: Programs,
    state: TrainState,
    epoch: int,
    observers: Sequence[Observer],
) -> tuple[dict[str, Any], TrainState, Scores]:
    """Trains one epoch and scores the validation split; returns the epoch's row as well."""
    config, splits = experiment.config, experiment.splits
    started = time.perf_counter()
    batches = train_batches(splits.train, config.train.batch_size, config.seed, epoch)
    state, totals, images_per_second = _train_epoch(programs, state, batches, epoch, observers)
    running = means(totals)
    scores = _score(experiment, programs, state, splits.validation, epoch)
    if not math.isfinite(scores.loss):
        raise RunFailed(
            f"the validation loss is NaN or infinite after step {int(state.step)} (epoch {epoch});"
            f" {_ADVICE}"
        )
    row = {
        "epoch": epoch,
        "train_loss": running["loss"],
        "train_accuracy": running["accuracy"],
        "val_loss": scores.loss,
        "val_accuracy": scores.accuracy,
        "learning_rate": float(experiment.schedule(int(state.step) - 1)),
        "seconds": time.perf_counter() - started,
        "penalty": running["penalty"],
        "images_per_second": images_per_second,
    }
    return row, state, scores


def _train_epoch(
    programs: Programs,
    state: TrainState,
    batches: Iterable[HostBatch],
    epoch: int,
    observers: Sequence[Observer],
) -> tuple[TrainState, Metrics, float]:
    """Runs the training step over `batches`.

    Returns:
        The state, the summed metrics, and images per second; the first step, which may have to
        compile, is left out of the speed where there is a second one.
    """
    totals = programs.place(no_metrics())
    images = 0
    started = ticked = time.perf_counter()
    for step, batch in enumerate(batches, start=1):
        state, totals = programs.train(state, totals, batch)
        if step == 2:
            started, images = time.perf_counter(), 0
        images += int(np.sum(batch["mask"]))
        if step == 1:
            jax.block_until_ready(totals)
        if time.perf_counter() - ticked > _TICK_SECONDS:
            _require_finite(totals, epoch)
            for observer in observers:
                observer.step_done(epoch, step, means(totals))
            ticked = time.perf_counter()
    _require_finite(totals, epoch)
    return state, totals, images / (time.perf_counter() - started)


def _require_finite(totals: Metrics, epoch: int) -> None:
    step = first_nonfinite_step(totals)
    if step is not None:
        raise RunFailed(
            f"the loss was NaN or infinite in step {step + 1} (epoch {epoch}); {_ADVICE}"
        )


def _score(
    experiment: Experiment, programs: Programs, state: TrainState, split: Split, epoch: int
) -> Scores:
    batches = eval_batches(split, experiment.config.train.batch_size)
    totals, logits = evaluate(programs, state, batches)
    scored = means(totals)
    return Scores(epoch, scored["loss"], scored["accuracy"], logits, split.labels)


def _test_scores(
    experiment: Experiment,
    programs: Programs,
    state: TrainState,
    history: History,
    last: Scores | None,
    checkpoints: Checkpoints,
) -> Scores:
    """Scores the test split once: the last epoch's model, or the holdout's best one."""
    splits = experiment.splits
    if splits.test is None:
        epoch = len(history)
        return last or _score(experiment, programs, state, splits.validation, epoch)
    best = programs.place(checkpoints.restore_best(state))
    return _score(experiment, programs, best, splits.test, histories.best_row(history)["epoch"])
