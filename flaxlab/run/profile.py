"""Writes a trace of a few calls of the training program."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType

import jax

from flaxlab.training.metrics import Metrics

_CALLS = 10

_log = logging.getLogger(__name__)


class Profile:
    """Traces ten calls of the training program, or those to the end, but not the first one.

    The first call of a process compiles. A context manager, so that a trace that has begun is
    written however the run ends.
    """

    def __init__(self, folder: Path | None) -> None:
        """Writes to `folder`/plugins/profile/<time>/ as `jax.profiler` does; None: nothing."""
        self._folder = folder
        self._calls = 0
        self._tracing = False

    def __enter__(self) -> Profile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._folder is not None and self._calls == 1:
            _log.warning("no profile: the training program was called only once")
        self._stop()

    def after_call(self, totals: Metrics, another: bool) -> None:
        """Starts or ends the trace; to do so it waits for what `totals` are made of.

        Args:
            totals: what the call has returned.
            another: whether another call follows.
        """
        if self._folder is None:
            return
        self._calls += 1
        if self._calls == 1 and another:
            jax.block_until_ready(totals)
            jax.profiler.start_trace(self._folder)
            self._tracing = True
        elif self._calls == 1 + _CALLS:
            jax.block_until_ready(totals)
            self._stop()

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
