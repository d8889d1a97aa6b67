"""The exceptions that end a command early: wrong input, a run that cannot go on, a signal."""

from __future__ import annotations

GO_ON = "start the same command again to resume"


class UsageError(Exception):
    """The input is wrong. The message says what was wrong, what was expected and what to do."""


class RunFailed(Exception):
    """The input was right, but the run cannot go on: the loss is NaN, for example."""


class Diverged(RunFailed):
    """A loss or a gradient was NaN or infinite."""


class Interrupted(KeyboardInterrupt):
    """The user or the system asked the command to stop.

    Attributes:
        signal: number of the signal.
    """

    def __init__(self, received: int, message: str) -> None:
        super().__init__(message)
        self.signal = received
