"""Lets the processes of a run decide together, at the same step.

A process that stops, saves or fails on its own would leave the others waiting for it in the next
exchange between devices. A single process decides at once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

from flaxlab.errors import GO_ON, RunFailed, UsageError

# Each exchange makes the host wait for the devices: not more often than this.
_EVERY_SECONDS = 0.5

# Words that mark an exception as a broken connection: each library raises its own class.
_OF_CONNECTIONS = ("gloo", "nccl", "coordination", "barrier", "connection", "socket", "heartbeat")


def is_main() -> bool:
    """Says whether this process writes the reports: the first one of a run does."""
    return jax.process_index() == 0


def in_several() -> bool:
    """Says whether the run has several processes."""
    return jax.process_count() > 1


def from_main(*numbers: int) -> tuple[int, ...]:
    """Returns the numbers of the first process, in all of them."""
    if not in_several():
        return numbers
    return tuple(np.asarray(multihost_utils.broadcast_one_to_all(np.array(numbers))).tolist())


class Agreement:
    """Lets the processes agree on what any of them asks for, all at the same call."""

    def __init__(self) -> None:
        self._calls, self._every = 0, 1
        self._last = time.monotonic()

    def is_time(self) -> bool:
        """Counts a call, and says whether to agree at it: at the same calls in every process."""
        self._calls += 1
        return not in_several() or self._calls >= self._every

    def reach(self, *requests: int) -> tuple[int, ...]:
        """Returns the largest of each request; all processes must call this together.

        Args:
            requests: numbers, 0 for none.
        """
        if not in_several():
            return requests
        passed = time.monotonic() - self._last
        mine = np.array([*requests, passed], np.float32)
        gathered = np.asarray(multihost_utils.process_allgather(mine))
        *agreed, longest = gathered.max(axis=0).tolist()
        # The slowest process decides how many calls pass until the next time, for all of them.
        calls = self._calls * _EVERY_SECONDS / max(longest, 1e-3)
        self._every = max(1, min(int(calls), 2 * self._every))
        self._calls, self._last = 0, time.monotonic()
        return tuple(map(int, agreed))


def is_lost_process(error: Exception) -> bool:
    """Says whether an error comes from a connection to another process of this run."""
    text = f"{type(error).__name__}: {error}".lower()
    return in_several() and any(word in text for word in _OF_CONNECTIONS)


def require_same(what: str) -> None:
    """Raises a `UsageError` in all processes unless `what` is the same text in each of them."""
    digest = int(hashlib.sha256(what.encode()).hexdigest()[:7], 16)
    (expected,) = from_main(digest)
    if any(Agreement().reach(int(digest != expected))):
        raise UsageError(
            "the processes of this run do not have the same config and data; start the same command"
            " in each, on copies of the same files (with their times: rsync -t, cp -p)"
        )


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Turns the loss of another process during the block into a `RunFailed`."""
    try:
        yield
    except Exception as error:  # whichever library was at the connection when it broke
        if isinstance(error, RunFailed | UsageError) or not is_lost_process(error):
            raise
        text = f"{type(error).__name__}: {error}"
        raise RunFailed(
            f"another process of this run was lost ({' '.join(text.split())[:160]}); {GO_ON}, in"
            " all processes (their number may be another)"
        ) from error
