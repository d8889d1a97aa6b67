"""Writes a trace of a few training steps, for TensorBoard's profile plugin or Perfetto."""

from __future__ import annotations

from pathlib import Path

import jax

from flaxlab.training.metrics import Metrics

# The first call compiles, and is left out.
_FIRST_CALL, _CALLS = 1, 10


class Profile:
    """Traces calls 2 to 11 of the first epoch of a process."""

    def __init__(self, folder: Path) -> None:
        """Writes to `folder`/plugins/profile/<time>/, as `jax.profiler` does."""
        self._folder = folder
        self._tracing = self._done = False

    def before_call(self, number: int, totals: Metrics) -> None:
        """Starts or ends the trace before call `number` (from 0) of the training program."""
        if number == _FIRST_CALL and not self._done:
            jax.profiler.start_trace(self._folder)
            self._tracing = True
        elif number == _FIRST_CALL + _CALLS:
            self.finish(totals)

    def finish(self, totals: Metrics) -> None:
        """Ends the trace, when what `totals` are made of is computed; else does nothing."""
        if self._tracing:
            jax.block_until_ready(totals)
            jax.profiler.stop_trace()
            self._tracing, self._done = False, True
