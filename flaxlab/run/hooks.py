"""Runs between steps: shows progress, saves the state, and checks whether to stop."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from flaxlab import files
from flaxlab.checkpoints.save import Checkpoints
from flaxlab.errors import GO_ON, Interrupted
from flaxlab.processes import Agreement, is_main
from flaxlab.run import history as histories
from flaxlab.run.history import History
from flaxlab.run.observer import Observer
from flaxlab.run.record import make_record
from flaxlab.training.epoch import EpochPart, finite_means
from flaxlab.training.experiment import Experiment
from flaxlab.training.state import TrainState

# Whether to stop, and by which signal; asked after each call of the program, or, with several
# processes, when they agree.
Stop = Callable[[], signal.Signals | None]

# Reading the running metrics makes the host wait for the device: not more often than this.
_TICK_SECONDS = 0.5

_log = logging.getLogger(__name__)


class Watch:
    """Watches over a run, from the first step to the last.

    history.csv holds the epochs whose checkpoint is completely saved, and no other: what it
    shows is not lost, whatever happens to the process.
    """

    def __init__(
        self,
        experiment: Experiment,
        checkpoints: Checkpoints,
        observers: Sequence[Observer],
        stop: Stop,
        history_file: Path,
    ) -> None:
        """Remembers whom to tell, where to save and whom to ask."""
        self._experiment = experiment
        self._checkpoints = checkpoints
        self._observers = observers
        self._stop = stop
        self._file = history_file
        self._agreement = Agreement()
        self._written: int | None = None  # rows of history.csv; None: it is to be written
        self._ticked = self._saved = time.monotonic()

    def after_call(self, history: History, state: TrainState, part: EpochPart) -> None:
        """Called after each call of the training program.

        Raises:
            RunFailed: a number was NaN or infinite.
            Interrupted: a signal asked to stop; the state is saved.
        """
        saves = self._is_due_by_steps(part.steps)
        agreed: tuple[int, ...] = (0, 0, 0)
        if self._agreement.is_time():
            late = time.monotonic() - self._ticked > _TICK_SECONDS
            agreed = self._agreement.reach(self._asked(), late, self._is_due_by_time(part.steps))
        stopping, ticks = agreed[0], agreed[1] > 0
        saves = saves or stopping > 0 or agreed[2] > 0
        epoch, config = len(history) + 1, self._experiment.config
        if ticks or saves:
            running = finite_means(part.totals, epoch, config.train.on_nonfinite == "skip")
        if ticks:
            self._checkpoints.settle(wait=False)
            self.write_history(history)
            for observer in self._observers:
                observer.step_done(epoch, part.steps, running)
            self._ticked = time.monotonic()
        if saves:
            self._save_midway(history, state, part)
        if stopping:
            self._interrupt(stopping, f"after step {part.steps} of epoch {epoch}")

    def while_scoring(self, history: History, state: TrainState, part: EpochPart) -> None:
        """Called after each batch that is scored at the end of an epoch; see `after_call`."""
        stopping = self._agreed_to_stop() if self._agreement.is_time() else 0
        if stopping:
            self._save_midway(history, state, part)
            self._interrupt(stopping, f"after the last step of epoch {len(history) + 1}")

    def after_epoch(self, history: History, state: TrainState) -> None:
        """Saves the state of an epoch that was scored, and the best one; tells of its row."""
        record = make_record(self._experiment, history)
        # The best one first: a run that is killed in between repeats this epoch, and never goes
        # on with a history whose best epoch was not saved.
        if histories.best_row(history) is history[-1]:
            self._checkpoints.save_best(state, record)
        self._checkpoints.save_latest(state, record)
        self._saved = time.monotonic()
        self.write_history(history)
        for observer in self._observers:
            observer.epoch_done(history[-1])
        stopping = self._agreed_to_stop()
        if stopping:
            self._interrupt(stopping, f"after epoch {len(history)}")

    def after_last_epoch(self, history: History, state: TrainState) -> None:
        """Waits until everything is saved; tries once more if the last save failed."""
        self._checkpoints.settle()
        if self._checkpoints.failure is not None:
            record = make_record(self._experiment, history)
            self._checkpoints.save_latest(state, record)
            self._checkpoints.settle()
        self.write_history(history)

    def stop_if_asked(self) -> None:
        """Called between batches when nothing is left to save; see `after_call`."""
        stopping = self._agreed_to_stop() if self._agreement.is_time() else 0
        if stopping:
            self._interrupt(stopping, "after the last epoch")

    def write_history(self, history: History) -> None:
        """Writes history.csv, unless it shows all epochs that are saved; in the first process."""
        if not is_main():
            return
        saved = self._checkpoints.saved_step() // self._experiment.steps_per_epoch
        rows = min(saved, len(history))
        if rows == self._written:
            return
        try:
            files.write_text(self._file, histories.to_csv(history[:rows]))
            self._written = rows
        except OSError as error:
            if self._written is not None:
                _log.warning("warning: %s could not be written (%s)", self._file, error.strerror)
            self._written = None

    def _asked(self) -> int:
        """Returns the signal by which this process was asked to stop; 0 if it was not."""
        return self._stop() or 0

    def _agreed_to_stop(self) -> int:
        """Returns the signal by which any process was asked to stop; 0 if none was."""
        return self._agreement.reach(self._asked())[0]

    def _is_due_by_steps(self, steps: int) -> bool:
        if steps == self._experiment.steps_per_epoch:  # the end of the epoch is saved anyway
            return False
        every = self._experiment.config.checkpoint.every_steps
        call = self._experiment.steps_per_call
        return every > 0 and steps // every > (steps - call) // every

    def _is_due_by_time(self, steps: int) -> bool:
        minutes = self._experiment.config.checkpoint.every_minutes
        waited = time.monotonic() - self._saved
        return steps < self._experiment.steps_per_epoch and 0 < 60 * minutes < waited

    def _save_midway(self, history: History, state: TrainState, part: EpochPart) -> None:
        self._checkpoints.save_midway(state, make_record(self._experiment, history, part))
        self._saved = time.monotonic()

    def _interrupt(self, received: int, where: str) -> None:
        self._checkpoints.settle()
        saved = "everything is saved"
        if self._checkpoints.failure is not None:
            saved = f"that state could not be saved ({self._checkpoints.failure})"
        raise Interrupted(received, f"{where}; {saved}; {GO_ON}")
