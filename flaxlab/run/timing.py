"""Keeps the host close to the devices, times epochs, and traces a few calls of the program."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from pathlib import Path
from typing import Any

import jax

from flaxlab.training.loop import Progress
from flaxlab.training.metrics import Metrics, Row

_CALLS_AHEAD = 1
_SECONDS_AHEAD = 0.5

_TRACED_CALLS = 10

_log = logging.getLogger(__name__)


class Throttle:
    """Keeps the host at most one call of a program ahead of the devices, or half a second.

    JAX returns from a call before the result is computed, and on a CPU queues some thirty calls:
    for half a minute of an AlexNet's steps, progress would stand still and signals would be
    ignored. One call is queued while another is computed, so that the devices never wait. On an
    accelerator, where a step takes a millisecond, half a second's worth of calls is queued.
    """

    def __init__(self, platform: str) -> None:
        """Starts with an empty queue for devices of `platform`, such as "cpu"."""
        self._seconds = 0.0 if platform == "cpu" else _SECONDS_AHEAD
        self._queued: deque[Any] = deque()
        self._done = 0
        self._first_done = 0.0

    def add(self, result: jax.Array) -> None:
        """Adds a call to the queue, and waits until the queue is short enough.

        Args:
            result: an array that the call returned and that no later call donates.
        """
        self._queued.append(result)
        while self._queued and (len(self._queued) > self._most() or self._queued[0].is_ready()):
            jax.block_until_ready(self._queued.popleft())
            if self._done == 0:  # the time before it includes compiling
                self._first_done = time.perf_counter()
            self._done += 1

    def _most(self) -> int:
        since_first = self._done - 1
        if since_first < 1:
            return _CALLS_AHEAD
        each = (time.perf_counter() - self._first_done) / since_first
        return max(_CALLS_AHEAD, int(self._seconds / max(each, 1e-6)))


class Stopwatch:
    """Measures the seconds of each epoch, and how many images a second it trains on.

    The speed leaves out the first call of a process, which compiles.
    """

    def __init__(self, batch_size: int, examples: int, steps: int, seconds: float) -> None:
        """Starts at once.

        Args:
            batch_size: examples of a batch.
            examples: number of training examples.
            steps: number of steps that an earlier start of the run took in this epoch.
            seconds: how long they took.
        """
        self._batch_size, self._examples = batch_size, examples
        self._compiled = False
        self.begin_epoch(steps, seconds)

    def begin_epoch(self, steps: int = 0, seconds: float = 0.0) -> None:
        """Starts again; see `__init__`."""
        self._before = seconds
        self._started = time.perf_counter()
        # When the measurement of speed begins and ends, and after how many steps of the epoch.
        self._from = self._to = self._started, steps

    def after_step(self, progress: Progress, last: bool) -> None:
        """Records a call of the program; waits for the first and for the last call of an epoch."""
        if last or not self._compiled:
            jax.block_until_ready(progress.totals)
        self._to = time.perf_counter(), progress.steps
        if not self._compiled and not last:
            self._from = self._to
        self._compiled = True

    def seconds(self) -> float:
        """Returns the seconds of the epoch so far."""
        return self._before + time.perf_counter() - self._started

    def timed(self, row: Row) -> Row:
        """Returns the row of the epoch with its seconds so far and its images per second."""
        (begin, first), (end, last) = self._from, self._to
        if last > first:
            speed = (self._images(last) - self._images(first)) / (end - begin)
        else:  # an earlier start took all steps
            speed = self._examples / max(self._before, 1e-9)
        return dataclasses.replace(row, seconds=self.seconds(), images_per_second=speed)

    def _images(self, steps: int) -> int:
        return min(steps * self._batch_size, self._examples)


class Profile:
    """Traces up to ten calls of the training program, from the second one on.

    The first call of a process compiles.
    """

    def __init__(self, folder: Path | None) -> None:
        """Writes to `folder`/plugins/profile/<time>/, as `jax.profiler` does; None: no trace."""
        self._folder = folder
        self._calls = 0
        self._tracing = False

    def after_call(self, totals: Metrics, another: bool) -> None:
        """Starts or ends the trace at the right call, once the device has computed it.

        Args:
            totals: what the call returned.
            another: whether another call follows.
        """
        self._calls += 1
        if self._folder is None:
            return
        if self._calls == 1 and not another:
            _log.warning("no profile: the training program was called only once")
        elif self._calls == 1:
            jax.block_until_ready(totals)
            jax.profiler.start_trace(self._folder)
            self._tracing = True
        elif self._calls == 1 + _TRACED_CALLS:
            jax.block_until_ready(totals)
            self.close()

    def close(self) -> None:
        """Writes the trace if one has begun."""
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
