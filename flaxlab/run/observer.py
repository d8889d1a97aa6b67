"""Who is told how a run goes on."""

from __future__ import annotations

from typing import Any, Protocol

from flaxlab.run.history import History
from flaxlab.training.experiment import Experiment


class Observer(Protocol):
    """Is told how a run goes on, and cannot influence it."""

    def run_started(self, experiment: Experiment, history: History, steps: int) -> None:
        """Called once.

        Args:
            experiment: what is run.
            history: the epochs of an earlier start, if there was one.
            steps: that it had taken in the next epoch.
        """

    def step_done(self, epoch: int, step: int, running: dict[str, float]) -> None:
        """Called now and then, `step` steps into an epoch, with its running means."""

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Called with the new row of the history."""

    def run_done(self) -> None:
        """Called once, also when the run ends by an exception."""
