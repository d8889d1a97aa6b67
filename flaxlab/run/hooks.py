"""Runs between the steps of a run: shows progress, saves the state, checks whether to stop."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from flaxlab.checkpoints.folder import Record
from flaxlab.checkpoints.save import Checkpoints
from flaxlab.errors import GO_ON, Diverged, Interrupted, RunFailed
from flaxlab.models.batch_statistics import Moments
from flaxlab.processes import Agreement, is_main
from flaxlab.run.history import HistoryFile, best_row
from flaxlab.run.record import make_record
from flaxlab.run.reporter import Reporter
from flaxlab.run.resume import Part
from flaxlab.run.steps import STEPS_FILE, StepSeries
from flaxlab.run.timing import Profile, Stopwatch, Throttle
from flaxlab.training.experiment import Experiment
from flaxlab.training.loop import Hooks, Progress, Start, finished
from flaxlab.training.metrics import NEVER, History, Metrics, Row, means
from flaxlab.training.state import TrainState, Variables

# Returns the signal that asked the run to stop, if any. Called after each call of a program; with
# several processes, whenever they agree on what to do.
Stop = Callable[[], signal.Signals | None]

# Seconds between two reports of progress: each makes the host wait for the devices.
_TICK_SECONDS = 0.5

_ADVICE = "what was saved before is kept. Try a lower --config.optimizer.learning_rate"

_log = logging.getLogger(__name__)


def whereabouts(epochs: int, steps: int) -> str:
    """Returns how far a run is, in words, from its complete epochs and the steps of the next."""
    return f"step {steps} of epoch {epochs + 1}" if steps else f"epoch {epochs}"


class RunHooks(Hooks):
    """The hooks of one run, from its first step to its last.

    history.csv shows only epochs whose checkpoint is completely saved, so nothing that it shows can
    be lost; that of a run that diverged shows all.
    """

    def __init__(
        self,
        experiment: Experiment,
        start: Start,
        part: Part,
        checkpoints: Checkpoints,
        reporters: Sequence[Reporter],
        stop: Stop,
        workdir: Path,
    ) -> None:
        """Tells the reporters that the run begins, and starts the stopwatch.

        Args:
            experiment: the experiment.
            start: where the run begins.
            part: what is known of the steps before `start` in its epoch.
            checkpoints: saves the state.
            reporters: show progress.
            stop: tells whether to stop.
            workdir: gets history.csv and steps.csv, and profile/ if the config asks for it.
        """
        self._experiment = experiment
        self._checkpoints = checkpoints
        self._reporters = reporters
        self._stop = stop
        self._history_file, self._history = HistoryFile(workdir / "history.csv"), start.history
        epochs, steps = len(start.history), start.progress.steps
        self._steps = StepSeries(experiment, workdir / STEPS_FILE, epochs, steps, part.mark)
        # Step, variables and record of the best epoch so far, until their save begins.
        self._best: tuple[int, Variables, Record] | None = None
        # Steps that no checkpoint of an epoch's end includes.
        self._unsaved = (start.state, start.progress) if start.progress.steps else None
        # Whether the last call reached or passed a multiple of `checkpoint.every_steps`.
        self._reached_multiple = False
        self._agreement = Agreement()
        self._throttle = Throttle(jax.default_backend())
        self._profile = Profile(workdir / "profile" if experiment.config.train.profile else None)
        self._write_history()
        for reporter in reporters:
            reporter.run_started(experiment, epochs, steps)
        self._ticked = self._saved = self._epoch_saved = time.monotonic()
        examples, size = len(experiment.splits.train), experiment.config.train.batch_size
        self._stopwatch = Stopwatch(size, examples, steps, part.seconds)

    def after_step(self, state: TrainState, progress: Progress) -> None:
        """See `Hooks`.

        Raises:
            Diverged: a number was NaN or infinite.
            Interrupted: a signal asked to stop; the state is saved.
        """
        before = self._unsaved[1].steps if self._unsaved else 0
        every = self._experiment.config.checkpoint.every_steps
        self._reached_multiple = every > 0 and progress.steps // every > before // every
        self._unsaved = (state, progress)
        last = progress.steps == self._experiment.steps_per_epoch
        self._throttle.add(progress.totals.count)
        self._steps.after_step(state, progress)
        self._stopwatch.after_step(progress, last)
        another = not last or progress.epoch < self._experiment.config.train.epochs
        self._profile.after_call(progress.totals, another)
        due = not last and self._reached_multiple
        late = time.monotonic() - self._ticked > _TICK_SECONDS
        due_by_time = not last and self._is_due_by_time()
        received, ticks, agreed = self._agreement.when_due(self._stop() or 0, late, due_by_time)
        due = due or agreed > 0
        if received or ticks or due or last:
            self._write_steps()
            self._check_finite(progress)
        if ticks:
            self._tick(progress)
        if received or due:
            self._save_midway()
        if received:
            self._interrupt(received, f"after step {progress.steps} of epoch {progress.epoch}")
        if last:
            self._report_skipped(progress)

    def after_batch(self, totals: Metrics | Moments) -> None:
        """See `Hooks` and `after_step`."""
        self._throttle.add(totals.count)
        (received,) = self._agreement.when_due(self._stop() or 0)
        if not received:
            return
        if self._unsaved is None:
            self._interrupt(received, "after the last epoch")
        self._save_midway()
        self._interrupt(received, f"after the last step of epoch {len(self._history) + 1}")

    def timed(self, row: Row) -> Row:
        """See `Hooks`.

        Raises:
            Diverged: the loss of the validation split is NaN or infinite.
        """
        if not math.isfinite(row.val_loss):
            raise self._diverged(
                "the validation loss is NaN or infinite after step"
                f" {row.epoch * self._experiment.steps_per_epoch} (epoch {row.epoch})"
            )
        return self._stopwatch.timed(row)

    def after_epoch(self, state: TrainState, history: History) -> None:
        """Saves the state if that is due, as the best one too if it is, and reports the new row."""
        self._history, self._unsaved = history, None
        config = self._experiment.config
        late = time.monotonic() - self._epoch_saved >= config.checkpoint.epoch_seconds
        received, due = self._agreement.now(self._stop() or 0, late)
        due = due or self._reached_multiple
        record = make_record(self._experiment, history)
        if best_row(history) is history[-1]:
            # A copy, since the next step reuses the memory of the state.
            self._best = int(state.step), jax.tree.map(jnp.copy, state.scored), record
        if received or due or finished(config.train, history):
            self._save_best()
            self._checkpoints.save_latest(state, record)
            self._saved = self._epoch_saved = time.monotonic()
        self._write_history()
        for reporter in self._reporters:
            reporter.epoch_done(history[-1])
            if config.log.histograms and len(history) % config.log.histograms == 0:
                reporter.weights_due(len(history), state.params)
        if received:
            self._interrupt(received, f"after epoch {len(history)}")
        self._stopwatch.begin_epoch()  # saving is not part of the next epoch

    def after_last_epoch(self, state: TrainState) -> None:
        """Waits until everything is saved; tries once more if the last save failed."""
        self._checkpoints.settle()
        if self._checkpoints.failure is not None:
            self._checkpoints.save_latest(state, make_record(self._experiment, self._history))
            self._checkpoints.settle()
        self._write_history()

    def end(self) -> None:
        """Tells the reporters that the training is over, however it ended."""
        self._profile.close()
        for reporter in self._reporters:
            reporter.run_done()

    def _write_history(self, whole: bool = False) -> None:
        """Writes the epochs that have been saved to history.csv; all of them if `whole`."""
        saved = self._checkpoints.newest_step() // self._experiment.steps_per_epoch
        self._history_file.write(self._history if whole else self._history[:saved])

    def _write_steps(self) -> None:
        """Writes steps.csv; always before a checkpoint that includes these steps."""
        if rows := self._steps.take():
            for reporter in self._reporters:
                reporter.steps_written(rows)

    def _tick(self, progress: Progress) -> None:
        self._checkpoints.settle(wait=False)
        self._write_history()
        running = means(progress.totals)
        for reporter in self._reporters:
            reporter.step_done(progress.epoch, progress.steps, running)
        self._ticked = time.monotonic()

    def _check_finite(self, progress: Progress) -> None:
        step = int(progress.totals.nonfinite_step)
        if step != NEVER and self._experiment.config.train.on_nonfinite != "skip":
            raise self._diverged(
                f"the loss or a gradient was NaN or infinite in step {step + 1} (epoch"
                f" {progress.epoch})",
                ", or --config.train.on_nonfinite=skip",
            )

    def _report_skipped(self, progress: Progress) -> None:
        skipped = int(progress.totals.skipped)
        if skipped == progress.steps:
            raise self._diverged(
                "the loss or a gradient was NaN or infinite in every step of epoch"
                f" {progress.epoch}"
            )
        if skipped and is_main():
            _log.warning(
                "warning: %d of %d steps of epoch %d were skipped, from step %d on: their loss or"
                " a gradient was NaN or infinite",
                skipped,
                progress.steps,
                progress.epoch,
                int(progress.totals.nonfinite_step) + 1,
            )

    def _diverged(self, reason: str, more_advice: str = "") -> Diverged:
        """Keeps what is known of a run that cannot go on, and returns its error."""
        with contextlib.suppress(RunFailed):  # this error is the one to report
            self._save_best()
            self._checkpoints.settle()
        self._write_history(whole=True)
        return Diverged(f"{reason}; {_ADVICE}{more_advice}")

    def _is_due_by_time(self) -> bool:
        minutes = self._experiment.config.checkpoint.every_minutes
        return 0 < 60 * minutes < time.monotonic() - self._saved

    def _save_best(self) -> None:
        """Begins to save the best state if that has not begun; always before a whole state."""
        if self._best is not None:
            self._checkpoints.save_best(*self._best)
            self._best = None

    def _save_midway(self) -> None:
        assert self._unsaved is not None
        self._save_best()
        state, progress = self._unsaved
        seconds, mark = self._stopwatch.seconds(), self._steps.mark
        record = make_record(self._experiment, self._history, progress, seconds, mark)
        self._checkpoints.save_midway(state, record)
        self._saved = time.monotonic()

    def _interrupt(self, received: int, where: str) -> None:
        self._checkpoints.settle()
        self._write_history()
        saved = "everything is saved"
        if self._checkpoints.failure is not None:
            saved = f"that state could not be saved ({self._checkpoints.failure})"
        raise Interrupted(received, f"{where}; {saved}; {GO_ON}")
