"""Lets the processes of a run decide together, at the same step.

A process that stopped, saved or failed on its own would leave the others waiting for it in the next
exchange between devices. A run of one process decides at once.
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

# Seconds between two exchanges: each makes the host wait for the devices.
_EVERY_SECONDS = 0.5

# Words in the errors of broken connections: each library raises its own class.
_OF_CONNECTIONS = ("gloo", "nccl", "coordination", "barrier", "connection", "socket", "heartbeat")


def is_main() -> bool:
    """Returns whether this is the first process of the run, which writes its files."""
    return jax.process_index() == 0


def in_several() -> bool:
    """Returns whether the run has several processes."""
    return jax.process_count() > 1


def from_main(*numbers: int) -> tuple[int, ...]:
    """Returns the numbers that the first process passed, in every process."""
    if not in_several():
        return numbers
    return tuple(np.asarray(multihost_utils.broadcast_one_to_all(np.array(numbers))).tolist())


class Agreement:
    """Lets any process make a request, and all processes meet it at the same call."""

    def __init__(self) -> None:
        self._calls, self._every = 0, 1
        self._last = time.monotonic()

    def when_due(self, *requests: int) -> tuple[int, ...]:
        """Returns what `now` does about every half second, and zeros at the calls in between.

        Which calls exchange requests is the same in every process.
        """
        self._calls += 1
        if in_several() and self._calls < self._every:
            return (0,) * len(requests)
        return self.now(*requests)

    def now(self, *requests: int) -> tuple[int, ...]:
        """Returns the largest value of each request; all processes must call this together.

        Args:
            *requests: numbers, 0 for no request.
        """
        if not in_several():
            return requests
        passed = time.monotonic() - self._last
        mine = np.array([*requests, passed], np.float32)
        gathered = np.asarray(multihost_utils.process_allgather(mine))
        *agreed, longest = gathered.max(axis=0).tolist()
        # The slowest process decides for all how many calls pass until the next exchange.
        calls = self._calls * _EVERY_SECONDS / max(longest, 1e-3)
        self._every = max(1, min(int(calls), 2 * self._every))
        self._calls, self._last = 0, time.monotonic()
        return tuple(map(int, agreed))


def is_lost_process(error: Exception) -> bool:
    """Returns whether an error comes from a connection to another process of this run."""
    text = f"{type(error).__name__}: {error}".lower()
    return in_several() and any(word in text for word in _OF_CONNECTIONS)


def require_same(what: str) -> None:
    """Raises a `UsageError` in all processes unless `what` is the same text in each of them."""
    digest = int(hashlib.sha256(what.encode()).hexdigest()[:7], 16)
    (expected,) = from_main(digest)
    if any(Agreement().now(int(digest != expected))):
        raise UsageError(
            "the processes of this run do not have the same config and data; start the same command"
            " in each, on copies of the same files (with their times: rsync -t, cp -p)"
        )


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Turns the loss of another process during the block into a `RunFailed`."""
    try:
        yield
    except Exception as error:  # its class depends on the library that held the connection
        if isinstance(error, RunFailed | UsageError) or not is_lost_process(error):
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise RunFailed(
            f"another process of this run was lost ({text[:160]}); {GO_ON}, in all processes"
            " (their number may change)"
        ) from error
