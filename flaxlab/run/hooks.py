"""What a run does between its steps: shows progress, measures, saves, and stops when asked."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from flaxlab import files
from flaxlab.checkpoints.save import Checkpoints
from flaxlab.errors import GO_ON, Interrupted, RunFailed
from flaxlab.processes import Agreement, is_main
from flaxlab.run.history import best_row, to_csv
from flaxlab.run.profile import Profile
from flaxlab.run.record import make_record
from flaxlab.run.reporter import Reporter
from flaxlab.run.stopwatch import Stopwatch
from flaxlab.run.underway import Underway
from flaxlab.training.experiment import Experiment
from flaxlab.training.loop import Hooks, Progress, Start
from flaxlab.training.metrics import History, Metrics, Row, first_nonfinite_step, means
from flaxlab.training.state import TrainState

# Whether to stop, and by which signal; asked after each call of a program, or, with several
# processes, when they agree.
Stop = Callable[[], signal.Signals | None]

# Reading the running metrics makes the host wait for the device: not more often than this.
_TICK_SECONDS = 0.5

_ADVICE = "the checkpoints of earlier epochs are kept. Try a lower --config.optimizer.learning_rate"

_log = logging.getLogger(__name__)


class RunHooks(Hooks):
    """The hooks of one run, from its first step to its last.

    history.csv holds the epochs whose checkpoint is completely saved, and no other: what it
    shows is not lost, whatever happens to the process.
    """

    def __init__(
        self,
        experiment: Experiment,
        start: Start,
        seconds: float,
        checkpoints: Checkpoints,
        reporters: Sequence[Reporter],
        stop: Stop,
        profile: Profile,
        history_file: Path,
    ) -> None:
        """Tells the reporters that the run begins, and measures from now on.

        Args:
            experiment: what is run.
            start: where it begins.
            seconds: that the steps already taken in the epoch took.
            checkpoints: where to save.
            reporters: whom to tell.
            stop: whom to ask.
            profile: told of each call of the training program.
            history_file: history.csv.
        """
        self._experiment = experiment
        self._checkpoints = checkpoints
        self._reporters = reporters
        self._stop = stop
        self._profile = profile
        self._file = history_file
        self._history = start.history
        self._unsaved: tuple[TrainState, Progress] | None = None  # steps that are in no checkpoint
        self._agreement = Agreement()
        self._written: int | None = None  # rows of history.csv; None: it is to be written
        self._ticked = self._saved = time.monotonic()
        self._underway = Underway(jax.default_backend())
        self._stopwatch = Stopwatch(
            experiment.config.train.batch_size,
            len(experiment.splits.train),
            start.progress.steps,
            seconds,
        )
        if start.progress.steps:
            self._unsaved = (start.state, start.progress)
        self.write_history()
        for reporter in reporters:
            reporter.run_started(experiment, len(start.history), start.progress.steps)

    def after_step(self, state: TrainState, progress: Progress) -> None:
        """See `Hooks`.

        Raises:
            RunFailed: a number was NaN or infinite.
            Interrupted: a signal asked to stop; the state is saved.
        """
        self._unsaved = (state, progress)
        last = progress.steps == self._experiment.steps_per_epoch
        self._underway.add(progress.totals.count)
        self._stopwatch.after_step(progress, last)
        another = not last or progress.epoch < self._experiment.config.train.epochs
        self._profile.after_call(progress.totals, another)
        saves = not last and self._is_due_by_steps(progress.steps)
        agreed: tuple[int, ...] = (0, 0, 0)
        if self._agreement.is_time():
            late = time.monotonic() - self._ticked > _TICK_SECONDS
            due = not last and self._is_due_by_time()
            agreed = self._agreement.reach(self._asked(), late, due)
        stopping, ticks = agreed[0], agreed[1] > 0
        saves = saves or stopping > 0 or agreed[2] > 0
        if ticks or saves or last:
            self._require_finite(progress)
        if ticks:
            self._tick(progress)
        if saves:
            self._save_midway()
        if stopping:
            self._interrupt(stopping, f"after step {progress.steps} of epoch {progress.epoch}")
        if last:
            self._report_skipped(progress)

    def after_batch(self, totals: Metrics) -> None:
        """See `Hooks` and `after_step`."""
        self._underway.add(totals.count)
        stopping = self._agreed_to_stop() if self._agreement.is_time() else 0
        if not stopping:
            return
        if self._unsaved is None:
            self._interrupt(stopping, "after the last epoch")
        self._save_midway()
        self._interrupt(stopping, f"after the last step of epoch {len(self._history) + 1}")

    def timed(self, row: Row) -> Row:
        """See `Hooks`.

        Raises:
            RunFailed: the loss of the validation split is NaN or infinite.
        """
        if not math.isfinite(row.val_loss):
            raise RunFailed(
                "the validation loss is NaN or infinite after step"
                f" {row.epoch * self._experiment.steps_per_epoch} (epoch {row.epoch}); {_ADVICE}"
            )
        return self._stopwatch.timed(row)

    def after_epoch(self, state: TrainState, history: History) -> None:
        """Saves the state of an epoch that was scored, and the best one; tells of its row."""
        self._history, self._unsaved = history, None
        record = make_record(self._experiment, history)
        # The best one first: a run that is killed in between repeats this epoch, and never goes
        # on with a history whose best epoch was not saved.
        if best_row(history) is history[-1]:
            self._checkpoints.save_best(state, record)
        self._checkpoints.save_latest(state, record)
        self._saved = time.monotonic()
        self.write_history()
        for reporter in self._reporters:
            reporter.epoch_done(history[-1])
        stopping = self._agreed_to_stop()
        if stopping:
            self._interrupt(stopping, f"after epoch {len(history)}")
        self._stopwatch.begin_epoch()  # what came after the row is not part of the next one

    def after_last_epoch(self, state: TrainState) -> None:
        """Waits until everything is saved; tries once more if the last save failed."""
        self._checkpoints.settle()
        if self._checkpoints.failure is not None:
            record = make_record(self._experiment, self._history)
            self._checkpoints.save_latest(state, record)
            self._checkpoints.settle()
        self.write_history()

    def end(self) -> None:
        """Tells the reporters that the training is over, however it ended."""
        for reporter in self._reporters:
            reporter.run_done()

    def write_history(self) -> None:
        """Writes history.csv, unless it shows all epochs that are saved; in the first process."""
        if not is_main():
            return
        saved = self._checkpoints.saved_step() // self._experiment.steps_per_epoch
        rows = min(saved, len(self._history))
        if rows == self._written:
            return
        try:
            files.write_text(self._file, to_csv(self._history[:rows]))
            self._written = rows
        except OSError as error:
            if self._written is not None:
                _log.warning("warning: %s could not be written (%s)", self._file, error.strerror)
            self._written = None

    def _tick(self, progress: Progress) -> None:
        self._checkpoints.settle(wait=False)
        self.write_history()
        running = means(progress.totals)
        for reporter in self._reporters:
            reporter.step_done(progress.epoch, progress.steps, running)
        self._ticked = time.monotonic()

    def _require_finite(self, progress: Progress) -> None:
        step = first_nonfinite_step(progress.totals)
        if step is not None and self._experiment.config.train.on_nonfinite != "skip":
            raise RunFailed(
                f"the loss or a gradient was NaN or infinite in step {step + 1} (epoch"
                f" {progress.epoch}); {_ADVICE}, or --config.train.on_nonfinite=skip"
            )

    def _report_skipped(self, progress: Progress) -> None:
        skipped = int(progress.totals.skipped)
        if skipped == progress.steps:
            raise RunFailed(
                "the loss or a gradient was NaN or infinite in every step of epoch"
                f" {progress.epoch}; {_ADVICE}"
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

    def _asked(self) -> int:
        """Returns the signal by which this process was asked to stop; 0 if it was not."""
        return self._stop() or 0

    def _agreed_to_stop(self) -> int:
        """Returns the signal by which any process was asked to stop; 0 if none was."""
        return self._agreement.reach(self._asked())[0]

    def _is_due_by_steps(self, steps: int) -> bool:
        every = self._experiment.config.checkpoint.every_steps
        call = self._experiment.steps_per_call
        return every > 0 and steps // every > (steps - call) // every

    def _is_due_by_time(self) -> bool:
        minutes = self._experiment.config.checkpoint.every_minutes
        return 0 < 60 * minutes < time.monotonic() - self._saved

    def _save_midway(self) -> None:
        assert self._unsaved is not None
        state, progress = self._unsaved
        seconds = self._stopwatch.seconds()
        record = make_record(self._experiment, self._history, progress, seconds)
        self._checkpoints.save_midway(state, record)
        self._saved = time.monotonic()

    def _interrupt(self, received: int, where: str) -> None:
        self._checkpoints.settle()
        saved = "everything is saved"
        if self._checkpoints.failure is not None:
            saved = f"that state could not be saved ({self._checkpoints.failure})"
        raise Interrupted(received, f"{where}; {saved}; {GO_ON}")
