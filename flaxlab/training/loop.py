"""The training loop: it calls the pure steps, scores, saves, and knows nothing of plots."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from flaxlab import config as configs
from flaxlab import files
from flaxlab.batches.feed import Feed, make_feed
from flaxlab.checkpoints.save import Checkpoints
from flaxlab.data.dataset import Split
from flaxlab.errors import RunFailed
from flaxlab.processes import explain_lost_process, is_main
from flaxlab.run import history as histories
from flaxlab.run.history import History
from flaxlab.run.hooks import Stop, Watch
from flaxlab.run.memory import explain_out_of_memory
from flaxlab.run.observer import Observer
from flaxlab.run.profile import Profile
from flaxlab.run.resume import find_start
from flaxlab.training.epoch import ADVICE, EpochPart, finite_means, train_epoch
from flaxlab.training.experiment import Experiment
from flaxlab.training.metrics import means
from flaxlab.training.programs import Programs, compile_programs, evaluate
from flaxlab.training.state import TrainState

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scores:
    """How a trained model did on the split that the run reports.

    Attributes:
        epoch: the epoch that was scored: the last one, or, with a holdout, the best one.
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
        unsaved: why the last state could not be saved; None if it is.
    """

    state: TrainState
    history: History
    test_scores: Scores
    programs: Programs
    unsaved: str | None


def fit(
    experiment: Experiment,
    workdir: Path,
    observers: Sequence[Observer] = (),
    programs: Programs | None = None,
    stop: Stop = lambda: None,
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
        stop: asked after each call of a program whether to save and stop, and by which signal.

    Raises:
        UsageError: `workdir` holds a run with another config or other data.
        RunFailed: a loss or gradient was NaN or infinite, or the device ran out of memory; the
            checkpoints that are saved are kept. Or another process of this run was lost.
        Interrupted: `stop` said so; the state is saved.
    """
    config, splits = experiment.config, experiment.splits
    layout = experiment.layout
    programs = programs or compile_programs(experiment.train_step, experiment.eval_step, layout)

    def eval_feed(split: Split) -> Feed:
        # Never resident: splits of another size would need another program.
        return make_feed(split, config.train.batch_size, 1, layout, "streamed")

    profile = Profile(workdir / "profile" if config.train.profile else None)
    compiled = False
    workdir.mkdir(parents=True, exist_ok=True)
    with (
        explain_lost_process(),
        explain_out_of_memory(config),
        Checkpoints(workdir / "checkpoints", config.checkpoint.keep) as checkpoints,
        profile,
    ):
        train_feed = experiment.feed_training()
        validation_feed = eval_feed(splits.validation)
        state, history, part = find_start(experiment, checkpoints, programs.place)
        watch = Watch(experiment, checkpoints, observers, stop, workdir / "history.csv")
        _begin_files(workdir, config, history, watch)
        scores = None
        try:
            for observer in observers:
                observer.run_started(experiment, history, part.steps)
            while not _finished(config.train, history):
                epoch = len(history) + 1
                state, part, speed = train_epoch(
                    programs,
                    state,
                    train_feed,
                    config.seed,
                    epoch,
                    part,
                    functools.partial(watch.after_call, history),
                    profile,
                    compiles=not compiled,
                )
                compiled = True
                trained = _summed_up(config.train, part, epoch)
                pause = functools.partial(watch.while_scoring, history, state, part)
                scores, seconds = _score(programs, state, validation_feed, epoch, pause)
                trained |= {"seconds": part.seconds + seconds, "images_per_second": speed}
                history = [*history, _row(experiment, state, trained, scores)]
                part = EpochPart.none()
                watch.after_epoch(history, state)
            watch.after_last_epoch(history, state)
        finally:
            for observer in observers:
                observer.run_done()
        if splits.test is None:
            # The validation split is the test split, and was scored after the last epoch.
            scored, feed, epoch = state, validation_feed, len(history)
        else:
            epoch = histories.best_row(history)["epoch"]
            best = checkpoints.restore_best(state, epoch * experiment.steps_per_epoch)
            scored, feed, scores = programs.place(best), eval_feed(splits.test), None
        if scores is None:
            scores, _ = _score(programs, scored, feed, epoch, watch.stop_if_asked)
        unsaved = checkpoints.failure
    return FitResult(state, history, scores, programs, unsaved)


def _begin_files(workdir: Path, config: ConfigDict, history: History, watch: Watch) -> None:
    if not is_main():
        return
    files.remove_leftovers(workdir)
    files.write_text(workdir / "config.json", configs.to_json(config) + "\n")
    watch.write_history(history)
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


def _finished(config: ConfigDict, history: History) -> bool:
    return len(history) >= config.epochs or histories.should_stop(
        history, config.early_stopping_patience, config.early_stopping_min_delta
    )


def _summed_up(config: ConfigDict, part: EpochPart, epoch: int) -> dict[str, Any]:
    """Returns what the row of an epoch says of its training."""
    trained = finite_means(part.totals, epoch, config.on_nonfinite == "skip")
    skipped = int(part.totals.skipped)
    if skipped == part.steps:
        raise RunFailed(
            f"the loss or a gradient was NaN or infinite in every step of epoch {epoch}; {ADVICE}"
        )
    if skipped and is_main():
        _log.warning(
            "warning: %d of %d steps of epoch %d were skipped, from step %d on: their loss or a"
            " gradient was NaN or infinite",
            skipped,
            part.steps,
            epoch,
            int(part.totals.nonfinite_step) + 1,
        )
    return {**trained, "skipped_steps": skipped}


def _row(
    experiment: Experiment, state: TrainState, trained: dict[str, Any], scores: Scores
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
        "seconds": trained["seconds"],
        "penalty": trained["penalty"],
        "images_per_second": trained["images_per_second"],
        "skipped_steps": trained["skipped_steps"],
    }


def _score(
    programs: Programs,
    state: TrainState,
    feed: Feed,
    epoch: int,
    after_batch: Callable[[], None],
) -> tuple[Scores, float]:
    """Returns the scores of a split, and the seconds that it took to find them."""
    started = time.perf_counter()
    totals, logits = evaluate(programs, state, feed, after_batch)
    scored = means(totals)
    scores = Scores(epoch, scored["loss"], scored["accuracy"], logits, feed.split.labels)
    return scores, time.perf_counter() - started
