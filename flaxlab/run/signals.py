"""Hears signals that ask a run to stop."""

from __future__ import annotations

import os
import signal
import threading
from types import TracebackType
from typing import Any

from flaxlab.command_line import EXIT_SIGNAL
from flaxlab.errors import GO_ON, Interrupted

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class Interruption:
    """Hears signals inside of its block, so that a run can end where it is whole.

    SIGINT and SIGTERM ask to stop, and so does SIGUSR2: Slurm sends a job what its batch file
    says (`--signal=USR2@120`) before its time is over. The first signal is remembered: whoever
    computes asks for it between two steps. A second one ends the process at once if one of the
    two is SIGINT: Slurm may send the others twice, which is no request to hurry. A
    thread does both: Python's own handlers wait for the main thread, which may be compiling for a
    minute.

    Attributes:
        received: the first signal; None before.
    """

    def __init__(
        self, first: str = "saving after this step", second: str = "stops at once"
    ) -> None:
        """Prepares to hear.

        Args:
            first: what the first signal does, said when it comes.
            second: what a second one would do.
        """
        self.received: signal.Signals | None = None
        self._first, self._second = first, second

    def __enter__(self) -> Interruption:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self._wakeup = signal.set_wakeup_fd(self._writer)
        # Without a handler of Python, its first part, which wakes the thread, would not run.
        self._handlers: dict[signal.Signals, Any] = {
            number: signal.signal(number, _nothing) for number in ASKING
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)
        if kind is None and self.received is not None:  # nobody has asked since
            raise Interrupted(self.received, GO_ON)

    def _listen(self) -> None:
        while heard := os.read(self._reader, 1):
            number = heard[0]
            if number not in ASKING:
                continue
            if self.received is None:
                self.received = signal.Signals(number)
                again = "once more" if number == signal.SIGINT else "Ctrl-C (SIGINT)"
                _say(f"{self.received.name}: {self._first}; {again} {self._second}")
            elif signal.SIGINT in (number, self.received):
                _say(f"stopped at once; {GO_ON} from the last save")
                os._exit(EXIT_SIGNAL + number)


def _nothing(number: int, frame: Any) -> None:
    """Leaves the work to the thread of `Interruption`."""


def _say(line: str) -> None:
    # Not by print: the main thread may be in the middle of it.
    show_cursor = "\x1b[?25h" if os.isatty(2) else ""
    os.write(2, f"{show_cursor}\n{line}\n".lstrip("\n").encode())
