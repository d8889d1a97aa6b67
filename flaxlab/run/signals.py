"""Waits for signals that ask a run to stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import TracebackType
from typing import Any

from flaxlab.command_line import EXIT_SIGNAL, in_notebook
from flaxlab.errors import GO_ON, Interrupted

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)

_log = logging.getLogger(__name__)


class Interruption:
    """Catches signals within its block, so that a run can stop between two steps.

    SIGINT, SIGTERM and SIGUSR2 ask to stop: Slurm sends a job what its batch file names
    (`--signal=USR2@120`) before its time is over. The first signal is kept in `received`, which the
    run reads between its steps. A second one ends the process at once if either of the two is
    SIGINT: Slurm may send the others twice without being in a hurry. In a notebook it does nothing,
    since the kernel holds more than this run. A thread handles the signals, since Python's own
    handlers wait for the main thread, which may be compiling for a minute.

    Outside the main thread it catches nothing, since Python lets only that one set handlers.

    Attributes:
        received: the first signal; None before it.
    """

    def __init__(
        self, first: str = "saving after this step", second: str = "stops at once"
    ) -> None:
        """Prepares the messages; signals are caught from the start of the block.

        Args:
            first: what the first signal does, shown when it comes.
            second: what a second one would do.
        """
        self.received: signal.Signals | None = None
        self._first, self._second = first, "" if in_notebook() else second

    def __enter__(self) -> Interruption:
        self._catching = threading.current_thread() is threading.main_thread()
        if not self._catching:
            return self
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self._wakeup = signal.set_wakeup_fd(self._writer)
        # Python writes to the pipe only for signals that have a handler.
        self._handlers: dict[signal.Signals, Any] = {
            number: signal.signal(number, lambda received, frame: None) for number in ASKING
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._catching:
            return
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)
        if kind is None and self.received is not None:  # it came after the run last looked
            raise Interrupted(self.received, GO_ON)

    def _listen(self) -> None:
        while heard := os.read(self._reader, 1):
            number = heard[0]
            if number not in ASKING:
                continue
            if self.received is None:
                self.received = signal.Signals(number)
                again = "once more" if number == signal.SIGINT else "Ctrl-C (SIGINT)"
                then = f"; {again} {self._second}" if self._second else ""
                _show(f"{self.received.name}: {self._first}{then}")
            elif self._second and signal.SIGINT in (number, self.received):
                _show(f"stopped at once; {GO_ON} from the last save")
                os._exit(EXIT_SIGNAL + number)


def _show(line: str) -> None:
    if os.isatty(1):  # a progress bar hides the cursor, and has not ended its line
        os.write(1, b"\x1b[?25h\n")
    # Not to `sys.stderr`: a progress bar replaces it, and may be waiting for the main thread.
    _log.warning(line)
