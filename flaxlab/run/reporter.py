"""Who is told how a run goes on."""

from __future__ import annotations

from typing import Protocol

from flaxlab.training.experiment import Experiment
from flaxlab.training.metrics import Row


class Reporter(Protocol):
    """Shows or writes how a run goes on, and cannot influence it."""

    def run_started(self, experiment: Experiment, epochs: int, steps: int) -> None:
        """Called once.

        Args:
            experiment: what is run.
            epochs: number of epochs that an earlier start of the run has completed.
            steps: number of steps that it had taken in the next one.
        """

    def step_done(self, epoch: int, step: int, running: dict[str, float]) -> None:
        """Called now and then, `step` steps into an epoch, with its running means."""

    def epoch_done(self, row: Row) -> None:
        """Called with the new row of the history."""

    def run_done(self) -> None:
        """Called once, also when the run ends by an exception."""


def whereabouts(epochs: int, steps: int) -> str:
    """Says how far a run has come: its complete epochs, and the steps of the next one."""
    return f"step {steps} of epoch {epochs + 1}" if steps else f"epoch {epochs}"
