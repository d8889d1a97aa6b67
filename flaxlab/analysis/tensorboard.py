"""Writes the history as TensorBoard events, without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from flaxlab.training.experiment import Experiment
from flaxlab.training.history import History


class TensorBoardLog:
    """Adds one point an epoch to the event files of a run directory."""

    def __init__(self, workdir: Path) -> None:
        """Writes to `workdir`."""
        self._workdir = workdir
        self._writer: SummaryWriter | None = None

    def run_started(self, experiment: Experiment, history: History) -> None:
        """Opens a new event file, unless nothing is left to train."""
        if len(history) < experiment.config.train.epochs:
            self._writer = SummaryWriter(str(self._workdir))

    def step_done(self, epoch: int, step: int, running: dict[str, float]) -> None:
        """Writes nothing inside an epoch."""

    def epoch_done(self, row: dict[str, Any]) -> None:
        """Writes the row; training and validation share a chart."""
        if self._writer is None:
            return
        values = {
            "loss/train": row["train_loss"],
            "loss/validation": row["val_loss"],
            "loss/penalty": row["penalty"],
            "accuracy/train": row["train_accuracy"],
            "accuracy/validation": row["val_accuracy"],
            "learning_rate": row["learning_rate"],
            "images_per_second": row["images_per_second"],
        }
        for name, value in values.items():
            self._writer.add_scalar(name, value, row["epoch"])
        self._writer.flush()

    def run_done(self) -> None:
        """Closes the event file."""
        if self._writer is not None:
            self._writer.close()
