"""What a run tells those who show or write its progress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flaxlab.run.steps import StepRow
from flaxlab.training.experiment import Experiment
from flaxlab.training.metrics import Row
from flaxlab.training.state import Params


class Reporter(Protocol):
    """Shows or writes the progress of a run, and cannot influence it."""

    def run_started(self, experiment: Experiment, epochs: int, steps: int) -> None:
        """Called once.

        Args:
            experiment: the experiment.
            epochs: number of epochs that an earlier start of the run completed.
            steps: number of steps that it took in the next one.
        """

    def step_done(self, epoch: int, step: int, running: dict[str, float]) -> None:
        """Called about twice a second, `step` steps into an epoch, with its `means` so far."""

    def steps_written(self, rows: Sequence[StepRow]) -> None:
        """Called with new rows of steps.csv, about twice a second."""

    def epoch_done(self, row: Row) -> None:
        """Called with each new row of the history."""

    def weights_due(self, epoch: int, params: Params) -> None:
        """Called with the parameters after every `config.log.histograms` epochs; does nothing."""
        return

    def run_done(self) -> None:
        """Called once, also when the run ends by an exception."""
