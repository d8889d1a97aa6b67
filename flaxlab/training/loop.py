"""The training loop: it calls the pure steps, scores, saves, and knows nothing of plots."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from flaxlab import config as configs
from flaxlab import files
from flaxlab.checkpoints.load import reported_step
from flaxlab.checkpoints.steps import find_saved
from flaxlab.checkpoints.store import Checkpoints
from flaxlab.data.dataset import Split
from flaxlab.data.feed import Feed, make_feed
from flaxlab.errors import RunFailed
from flaxlab.training import history as histories
from flaxlab.training.engine import Programs, compile_programs, evaluate
from flaxlab.training.epoch import ADVICE, train_epoch
from flaxlab.training.experiment import Experiment
from flaxlab.training.history import History
from flaxlab.training.metrics import means
from flaxlab.training.profile import Profile
from flaxlab.training.record import check_resumable, make_record
from flaxlab.training.state import TrainState
from flaxlab.training.warm_start import warm_start

_log = logging.getLogger(__name__)


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


def fit(
    experiment: Experiment,
    workdir: Path,
    observers: Sequence[Observer] = (),
    programs: Programs | None = None,
) -> FitResult:
    """Trains to the end of `config.train.epochs`, from wherever the run in `workdir` stands.

    After each epoch: score the validation split, add a row to the history, save. A run that was
    stopped and started again ends with the same bits as one that never stopped.

    Args:
        experiment: what to train, see `assemble`.
        workdir: run directory; "checkpoints/", "config.json", "history.csv" are written there.
        observers: told how the run goes on.
        programs: those of an earlier run of the same experiment with another seed; None:
            compiled anew.

    Raises:
        UsageError: `workdir` holds a run with another config or other data.
        RunFailed: the loss was NaN or infinite; the checkpoints of earlier epochs are kept.
    """
    config = experiment.config
    device = jax.devices()[0]
    programs = programs or compile_programs(experiment.train_step, experiment.eval_step, device)

    def eval_feed(split: Split) -> Feed:
        # Never resident: splits of another size would need another program.
        return make_feed(split, config.train.batch_size, 1, device, "streamed")

    def tick(epoch: int, steps: int, running: dict[str, float]) -> None:
        for observer in observers:
            observer.step_done(epoch, steps, running)

    splits = experiment.splits
    train_feed = make_feed(
        splits.train,
        config.train.batch_size,
        min(config.train.steps_per_execution, experiment.steps_per_epoch),
        device,
        config.data.placement,
    )
    validation_feed = eval_feed(splits.validation)
    profile = Profile(workdir / "profile" if config.train.profile else None)
    compiled = False
    workdir.mkdir(parents=True, exist_ok=True)
    with Checkpoints(workdir / "checkpoints", config.checkpoint.keep) as checkpoints, profile:
        state, history = _start(experiment, checkpoints)
        state = programs.place(state)
        files.write_text(workdir / "config.json", configs.to_json(config) + "\n")
        files.write_text(workdir / "history.csv", histories.to_csv(history))
        if not _finished(config.train, history):
            # A summary says that a run is complete; this one is about to go on.
            (workdir / "summary.json").unlink(missing_ok=True)
        elif len(history) < config.train.epochs:
            _log.info(
                "this run stopped early after epoch %d, for want of a better one in %d: nothing is"
                " left to train",
                len(history),
                config.train.early_stopping_patience,
            )
        scores = None
        try:
            for observer in observers:
                observer.run_started(experiment, history)
            while not _finished(config.train, history):
                epoch = len(history) + 1
                started = time.perf_counter()
                state, trained = train_epoch(
                    programs,
                    state,
                    train_feed,
                    config.seed,
                    epoch,
                    tick,
                    profile,
                    compiles=not compiled,
                )
                compiled = True
                scores = _score(programs, state, validation_feed, epoch)
                row = _row(experiment, state, trained, scores, time.perf_counter() - started)
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
        if splits.test is None:
            # The validation split is the test split, and was scored after the last epoch.
            test_scores = scores or _score(programs, state, validation_feed, len(history))
        else:
            best = programs.place(checkpoints.restore_best(state))
            epoch = histories.best_row(history)["epoch"]
            test_scores = _score(programs, best, eval_feed(splits.test), epoch)
    return FitResult(state, history, test_scores, programs)


def _start(experiment: Experiment, checkpoints: Checkpoints) -> tuple[TrainState, History]:
    """Returns the initial state, or the latest one of the run that was started here before."""
    state = experiment.create_state()
    record = checkpoints.latest_record()
    if record is None:
        checkpoints.forget_best_after(0)
        return _initial(state, experiment.config.train.init_from), []
    check_resumable(record, experiment.config, experiment.dataset)
    state = checkpoints.restore_latest(state)
    checkpoints.forget_best_after(int(state.step))
    return state, record["history"]


def _initial(state: TrainState, init_from: str | None) -> TrainState:
    if init_from is None:
        return state
    found = find_saved(Path(init_from))
    started = warm_start(state, Path(init_from), reported_step(found))
    _log.info("from %s: %s; the optimizer starts anew", init_from, ", ".join(started.taken))
    if started.left:
        _log.info("as drawn: %s", ", ".join(started.left))
    if started.unused:
        _log.info("not used: %s", ", ".join(started.unused))
    return started.state


def _finished(config: ConfigDict, history: History) -> bool:
    return len(history) >= config.epochs or histories.should_stop(
        history, config.early_stopping_patience, config.early_stopping_min_delta
    )


def _row(
    experiment: Experiment,
    state: TrainState,
    trained: dict[str, float],
    scores: Scores,
    seconds: float,
) -> dict[str, Any]:
    if not math.isfinite(scores.loss):
        raise RunFailed(
            f"the validation loss is NaN or infinite after step {int(state.step)}"
            f" (epoch {scores.epoch}); {ADVICE}"
        )
    return {
        "epoch": scores.epoch,
        "train_loss": trained["loss"],
        "train_accuracy": trained["accuracy"],
        "val_loss": scores.loss,
        "val_accuracy": scores.accuracy,
        "learning_rate": float(experiment.schedule(int(state.step) - 1)),
        "seconds": seconds,
        "penalty": trained["penalty"],
        "images_per_second": trained["images_per_second"],
    }


def _score(programs: Programs, state: TrainState, feed: Feed, epoch: int) -> Scores:
    totals, logits = evaluate(programs, state, feed)
    scored = means(totals)
    return Scores(epoch, scored["loss"], scored["accuracy"], logits, feed.split.labels)
