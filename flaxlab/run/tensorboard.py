"""Writes the history as TensorBoard events, without TensorFlow."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from flaxlab.run.history import values_of_epoch
from flaxlab.run.steps import StepRow, values_of_steps
from flaxlab.training.experiment import Experiment
from flaxlab.training.metrics import Row

_log = logging.getLogger(__name__)


class TensorBoardLog:
    """Adds the rows of history.csv and steps.csv to the event files of a run directory.

    It writes at once. The thread of tensorboardX's own writer dies if the disk is full, and the
    process then waits for it forever.
    """

    def __init__(self, workdir: Path) -> None:
        """Writes to `workdir`."""
        self._workdir = workdir
        self._writer: EventsWriter | None = None

    def run_started(self, experiment: Experiment, epochs: int, steps: int) -> None:
        """Opens a new event file, unless nothing is left to train."""
        if epochs < experiment.config.train.epochs:
            with self._giving_up_on_errors():
                self._writer = EventsWriter(str(self._workdir / "events"))

    def step_done(self, epoch: int, step: int, running: dict[str, float]) -> None:
        """Does nothing within an epoch."""

    def steps_written(self, rows: Sequence[StepRow]) -> None:
        """Writes the rows, in charts over the steps."""
        self._write((row.step, values_of_steps(row)) for row in rows)

    def epoch_done(self, row: Row) -> None:
        """Writes the row, in charts over the epochs."""
        self._write([(row.epoch, values_of_epoch(row))])

    def _write(self, points: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        if self._writer is None:
            return
        with self._giving_up_on_errors():
            for at, values in points:
                named = [Summary.Value(tag=tag, simple_value=x) for tag, x in values.items()]
                event = Event(wall_time=time.time(), step=at, summary=Summary(value=named))
                self._writer.write_event(event)
            self._writer.flush()

    def run_done(self) -> None:
        """Closes the event file."""
        if self._writer is not None:
            with self._giving_up_on_errors():
                self._writer.close()

    @contextlib.contextmanager
    def _giving_up_on_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            _log.warning("warning: no more TensorBoard events are written (%s)", error)
