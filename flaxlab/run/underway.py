"""Keeps the host close to the devices."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import jax

_CALLS_AHEAD = 1
_SECONDS_AHEAD = 0.5


class Underway:
    """Keeps the host close to the devices: one call of a program ahead, or half a second.

    JAX returns from a call before it is computed, and on a CPU lets some thirty of them wait: for
    half a minute of an AlexNet's steps progress would stand still and a signal would not be heard.
    One call must wait while another is computed, so that the devices never do. On an accelerator,
    whose steps take a millisecond, as many may wait as are computed in half a second.
    """

    def __init__(self, platform: str) -> None:
        """Starts with nothing under way on devices of `platform`, "cpu" or another."""
        self._seconds = 0.0 if platform == "cpu" else _SECONDS_AHEAD
        self._called: deque[Any] = deque()
        self._done = 0
        self._first_done = 0.0

    def add(self, result: jax.Array) -> None:
        """Takes an array that a call has returned, and waits until few enough are under way.

        Args:
            result: its memory must be taken by no later call.
        """
        self._called.append(result)
        while self._called and (len(self._called) > self._most() or self._called[0].is_ready()):
            jax.block_until_ready(self._called.popleft())
            if self._done == 0:  # the time before it compiled
                self._first_done = time.perf_counter()
            self._done += 1

    def _most(self) -> int:
        since_first = self._done - 1
        if since_first < 1:
            return _CALLS_AHEAD
        each = (time.perf_counter() - self._first_done) / since_first
        return max(_CALLS_AHEAD, int(self._seconds / max(each, 1e-6)))
