"""steps.csv: how loss and accuracy move within the epochs of a run.

The rows come from sums that the training program keeps anyway. They are copied to the host behind
the program's back and read where the host waits for the devices anyway: the training never waits.
"""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flaxlab import files
from flaxlab.processes import is_main
from flaxlab.training.experiment import Experiment
from flaxlab.training.loop import Progress
from flaxlab.training.optimizer import plateau_scale
from flaxlab.training.state import TrainState

STEPS_FILE = "steps.csv"

_ROWS_PER_EPOCH = 50  # at most, where the config leaves it open

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepRow:
    """Some steps of a run. The fields are the columns of steps.csv.

    Loss (mean cross entropy in nats) and accuracy (share of correct predictions) are of the
    examples since the row before, or since the epoch began, in training mode; NaN if all of these
    steps were skipped. They are differences of float32 sums over the epoch: some five digits of a
    loss are right.

    Attributes:
        step: number of steps that the run has taken.
        epoch: the epoch, from 1.
        train_loss: see above.
        train_accuracy: see above.
        learning_rate: that of the last step.
    """

    step: int
    epoch: int
    train_loss: float
    train_accuracy: float
    learning_rate: float


_COLUMNS = tuple(field.name for field in fields(StepRow))


def values_of_steps(row: StepRow) -> dict[str, float]:
    """Returns what charts over the steps show, by name."""
    return {
        "steps/loss": row.train_loss,
        "steps/accuracy": row.train_accuracy,
        "steps/learning_rate": row.learning_rate,
    }


class Mark(NamedTuple):
    """Where the last row ends: the epoch, its steps until there, and the sums over their examples.

    A checkpoint within an epoch keeps it, so that the rows of a resumed run are those of one that
    never stopped.
    """

    epoch: int
    steps: int = 0
    loss: float = 0.0
    correct: int = 0
    examples: int = 0


class StepSeries:
    """The rows of a run, and their file, which the first process writes."""

    def __init__(
        self, experiment: Experiment, path: Path, epochs: int, steps: int, mark: Mark | None
    ) -> None:
        """Drops from the file what a run that goes on from here will do again.

        Args:
            experiment: `config.log.every_steps` says how often there is a row.
            path: the file.
            epochs: number of complete epochs.
            steps: number of steps taken in the next one.
            mark: where the last row in it ends; None: there is none.
        """
        self._steps_per_epoch = experiment.steps_per_epoch
        self._schedule = experiment.schedule
        self._every = _interval(experiment.config.log.every_steps, self._steps_per_epoch)
        self.mark = mark or Mark(epochs + 1)
        # How far rows have been cut off, and those of them that have not been read.
        self._cut = epochs + 1, steps
        self._due: list[tuple[Progress, jax.Array | None]] = []
        self._plateau = experiment.config.optimizer.schedule == "plateau"
        self._rates: tuple[int, np.ndarray] | None = None  # an epoch, and the rate of each step
        self._file = _File(path, epochs * self._steps_per_epoch + steps)

    def after_step(self, state: TrainState, progress: Progress) -> None:
        """Keeps the sums of the epoch if they end a row; does not wait for the device.

        Args:
            state: the state after the step, valid until the next.
            progress: its sums must not be donated.
        """
        if self._every == 0:
            return
        epoch, steps = self._cut
        before = steps if epoch == progress.epoch else 0
        last = progress.steps == self._steps_per_epoch
        if last or progress.steps // self._every > before // self._every:
            sums = progress.totals
            for array in (sums.loss, sums.correct, sums.count):
                array.copy_to_host_async()
            scale = plateau_scale(state) if self._plateau else None
            # A copy, since the next step reuses the memory of the state.
            self._due.append((progress, None if scale is None else jnp.copy(scale)))
            self._cut = progress.epoch, progress.steps

    def take(self) -> list[StepRow]:
        """Returns the rows since the last call, which are now in the file; waits for the device."""
        rows = [self._row(progress, scale) for progress, scale in self._due]
        self._due.clear()
        if rows:
            self._file.add(rows)
        return rows

    def _row(self, progress: Progress, scale: jax.Array | None) -> StepRow:
        epoch, sums = progress.epoch, progress.totals
        before = self.mark if self.mark.epoch == epoch else Mark(epoch)
        now = Mark(epoch, progress.steps, float(sums.loss), int(sums.correct), int(sums.count))
        self.mark = now
        examples = now.examples - before.examples or math.nan
        rate = self._rate(epoch, now.steps)
        return StepRow(
            step=(epoch - 1) * self._steps_per_epoch + now.steps,
            epoch=epoch,
            train_loss=(now.loss - before.loss) / examples,
            train_accuracy=(now.correct - before.correct) / examples,
            learning_rate=rate if scale is None else rate * float(scale),
        )

    def _rate(self, epoch: int, steps: int) -> float:
        if self._rates is None or self._rates[0] != epoch:
            # Of the whole epoch at once: each call interrupts the devices.
            taken = np.arange(self._steps_per_epoch) + (epoch - 1) * self._steps_per_epoch
            self._rates = epoch, np.asarray(jax.vmap(self._schedule)(taken))
        return float(str(self._rates[1][steps - 1]))  # 0.001, not that float32's other digits


def _interval(every_steps: int | None, steps_per_epoch: int) -> int:
    """Returns the number of steps of a row; 0: none are wanted."""
    return math.ceil(steps_per_epoch / _ROWS_PER_EPOCH) if every_steps is None else every_steps


def read_steps(path: Path) -> list[StepRow]:
    """Returns the rows of a steps.csv; none if there is no such file.

    It ends where the file is damaged, as a power failure may leave its end.
    """
    rows: list[StepRow] = []
    try:
        lines = path.read_bytes().decode(errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return rows
    for values in csv.reader(line for line in lines[1:] if line.endswith("\n")):
        try:
            step, epoch, *numbers = values
            row = StepRow(int(step), int(epoch), *map(float, numbers))
        except (ValueError, TypeError):
            break
        if rows and row.step <= rows[-1].step:
            break
        rows.append(row)
    return rows


def _to_csv(rows: Sequence[StepRow], header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


class _File:
    """Gets rows appended; it is written anew where that is not enough."""

    def __init__(self, path: Path, steps: int) -> None:
        """Drops the rows of an existing file that are beyond so many steps."""
        self._path = path
        self._rows: list[StepRow] = []
        self._whole = False  # whether the file holds just these rows
        self._warned = False
        if is_main() and path.exists():
            found = read_steps(path)
            self._rows = [row for row in found if row.step <= steps]
            if not self._rows:
                path.unlink()
            elif self._rows != found:
                self.add([])

    def add(self, rows: Sequence[StepRow]) -> None:
        """Adds rows; warns once if that fails, and tries again with the next ones."""
        self._rows += rows
        if not is_main():
            return
        try:
            if self._whole and self._path.exists():
                with self._path.open("a") as file:
                    file.write(_to_csv(rows, header=False))
            else:
                files.write_text(self._path, _to_csv(self._rows, header=True))
            self._whole = self._warned = True
        except OSError as error:
            if self._whole or not self._warned:
                _log.warning("warning: %s could not be written (%s)", self._path, error.strerror)
            self._whole, self._warned = False, True
