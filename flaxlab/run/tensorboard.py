"""Writes the history, and histograms of weights, as TensorBoard events, without TensorFlow."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from flaxlab.run.history import values_of_epoch
from flaxlab.run.steps import StepRow, values_of_steps
from flaxlab.training.experiment import Experiment
from flaxlab.training.metrics import Row
from flaxlab.training.state import Params

_BINS = 30  # of a histogram: as many as TensorBoard shows
_RGBA = 4  # summary.proto

_log = logging.getLogger(__name__)


class TensorBoardLog:
    """Adds the rows of history.csv and steps.csv to the event files of a run directory.

    With `config.log.histograms`, also histograms of the parameters, and images of each class.

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
        if experiment.config.log.histograms and not (epochs or steps):
            from flaxlab.pages import image_plots, style  # matplotlib takes a second to import

            train = experiment.splits.train
            names = experiment.dataset.class_names
            picture = style.png(image_plots.samples(train.images, train.labels, names))
            self._write([(0, Summary(value=[Summary.Value(tag="samples", image=_image(picture))]))])

    def step_done(self, epoch: int, step: int, running: dict[str, float]) -> None:
        """Does nothing within an epoch."""

    def steps_written(self, rows: Sequence[StepRow]) -> None:
        """Writes the rows, in charts over the steps."""
        self._write((row.step, _scalars(values_of_steps(row))) for row in rows)

    def epoch_done(self, row: Row) -> None:
        """Writes the row, in charts over the epochs."""
        self._write([(row.epoch, _scalars(values_of_epoch(row)))])

    def weights_due(self, epoch: int, params: Params) -> None:
        """Writes a histogram of each array's finite values."""
        self._write((epoch, found) for found in _histograms(params))

    def _write(self, points: Iterable[tuple[int, Summary]]) -> None:
        if self._writer is None:
            return
        with self._giving_up_on_errors():
            for at, content in points:
                event = Event(wall_time=time.time(), step=at, summary=content)
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


def _scalars(values: Mapping[str, float]) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, simple_value=x) for tag, x in values.items()])


def _image(png: bytes) -> Summary.Image:
    # The header of the file begins with width and height.
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
    return Summary.Image(height=height, width=width, colorspace=_RGBA, encoded_image_string=png)


def _histograms(params: Params) -> Iterator[Summary]:
    for path, array in flatten_dict(params, sep="/").items():
        values = np.asarray(array)
        values = values[np.isfinite(values)]
        if values.size:
            yield summary.histogram(f"weights/{path}", values, _BINS)
