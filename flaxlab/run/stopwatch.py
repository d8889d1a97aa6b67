"""How long an epoch takes, and how many images a second are trained on."""

from __future__ import annotations

import dataclasses
import time

import jax

from flaxlab.training.loop import Progress
from flaxlab.training.metrics import Row


class Stopwatch:
    """Measures epochs. The first call of a process compiles, and is left out of the speed."""

    def __init__(self, batch_size: int, examples: int, steps: int, seconds: float) -> None:
        """Starts at once.

        Args:
            batch_size: examples of a batch.
            examples: number of training examples.
            steps: number of steps that an earlier start of the run has taken in this epoch.
            seconds: that they took.
        """
        self._batch_size, self._examples = batch_size, examples
        self._compiled = False
        self.begin_epoch(steps, seconds)

    def begin_epoch(self, steps: int = 0, seconds: float = 0.0) -> None:
        """Starts anew; see `__init__`."""
        self._before = seconds
        self._started = self._timed_from = self._ended = time.perf_counter()
        self._first = self._steps = self._timed_step = steps

    def after_step(self, progress: Progress, last: bool) -> None:
        """Takes note of a call of the program; waits for the first and the last one of an epoch."""
        self._steps = progress.steps
        if last or not self._compiled:
            jax.block_until_ready(progress.totals)
        self._ended = time.perf_counter()
        if not self._compiled and not last:
            self._timed_from, self._timed_step = self._ended, progress.steps
        self._compiled = True

    def seconds(self) -> float:
        """Returns the seconds of the epoch so far."""
        return self._before + time.perf_counter() - self._started

    def timed(self, row: Row) -> Row:
        """Returns the row of the epoch with its time so far and its speed."""
        if self._steps > self._first:
            images = self._images(self._steps) - self._images(self._timed_step)
            speed = images / (self._ended - self._timed_from)
        else:  # an earlier start had taken all steps
            speed = self._examples / max(self._before, 1e-9)
        return dataclasses.replace(row, seconds=self.seconds(), images_per_second=speed)

    def _images(self, steps: int) -> int:
        return min(steps * self._batch_size, self._examples)
