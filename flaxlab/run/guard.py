"""Watches over a process of a group from outside, since JAX may end it without a word in Python.

When the others do not come, or one of them is lost, JAX's runtime aborts the process from C++, with
a dump of its stack. The guard is the process that the user started: it forks the one that computes,
passes signals on to it, and tells in one line, and by the exit code, what became of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from flaxlab.command_line import EXIT_FAILED, EXIT_SIGNAL, EXIT_USAGE, run_command
from flaxlab.errors import GO_ON
from flaxlab.run.group import LOST_AFTER, Group

# Those that find the same error themselves should say so, before they miss this process.
_GRACE_SECONDS = 2

# What the child tells: that it has joined, and, before it waits for the others, its exit code.
_JOINED, _ENDS = b"j", b"e"

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)

# What JAX's runtime writes once a process is lost, and what flaxlab does.
_RUNTIME = re.compile(r"[WEF]\d{4} [\d:.]+ .*(coordination|preemption_sync|client\.h)")
_REASON = re.compile(r"(error|failed|interrupted|stopped at once)\b")
_OURS = re.compile(r"(warning|SIGINT|SIGTERM|SIGUSR2)\b")


def run_guarded(run: Callable[[Callable[[], None]], None], group: Group) -> NoReturn:
    """Runs a process of a group in a child process, and exits with what became of it.

    Args:
        run: what the process does. It is given a function that it calls once it has joined.
        group: that it belongs to.
    """
    ours, theirs = socket.socketpair()
    errors, written = os.pipe()
    child = os.fork()
    if child == 0:
        ours.close()
        os.close(errors)
        os.setpgid(0, 0)  # a terminal's Ctrl-C comes once, by the guard
        os.dup2(written, 2)
        os.close(written)
        _run_child(run, theirs)
    theirs.close()
    os.close(written)
    for number in _FORWARDED:
        signal.signal(number, lambda received, frame: _forward(child, received))
    output = _Output()
    reader = threading.Thread(target=output.read, args=(errors,), daemon=True)
    reader.start()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    reader.join(timeout=_GRACE_SECONDS)
    told = b"".join(iter(lambda: ours.recv(1), b""))
    sys.exit(_report(status, told, output, group))


def _run_child(run: Callable[[Callable[[], None]], None], guard: socket.socket) -> NoReturn:
    def end_with_the_guard() -> None:
        with contextlib.suppress(OSError):
            guard.recv(1)  # it never writes: this is its end
        os._exit(EXIT_FAILED)

    threading.Thread(target=end_with_the_guard, daemon=True).start()
    # Before a run hears it, as Slurm's word that time is over, it is like a SIGTERM.
    signal.signal(signal.SIGUSR2, signal.getsignal(signal.SIGTERM))
    code = EXIT_FAILED
    try:
        run_command(lambda _: run(lambda: guard.sendall(_JOINED)), [])
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    if code == 0:
        import jax

        jax.distributed.shutdown()  # waits for the others
    else:
        guard.sendall(_ENDS + bytes([code]))  # another may be faster, and JAX abort this process
        time.sleep(_GRACE_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by an exception: at the end of Python, JAX would wait for processes that never come.
    os._exit(code)


def _forward(child: int, received: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, received)


class _Output:
    """Passes on what the child writes to stderr, and keeps what JAX's runtime dumps there.

    Attributes:
        kept: lines that were not passed on.
        explained: whether flaxlab itself said why it ends.
    """

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.explained = False

    def read(self, file: int) -> None:
        """Reads to the end of a pipe."""
        with os.fdopen(file, errors="replace") as lines:
            for line in lines:
                if _REASON.match(line):
                    self.explained = True
                elif not _OURS.match(line) and (self.kept or _RUNTIME.match(line)):
                    self.kept.append(line)
                    continue
                sys.stderr.write(line)
                sys.stderr.flush()


def _report(status: int, told: bytes, output: _Output, group: Group) -> int:
    """Says why the child ended, if it could not; returns the exit code."""
    if status >= 0:
        if status and not output.explained:
            sys.stderr.writelines(output.kept)
        return status
    number = signal.Signals(-status)
    if number != signal.SIGABRT:
        _say(f"failed: the process was ended by {number.name}; {GO_ON}, in all processes")
        return EXIT_SIGNAL + number
    if _ENDS in told:  # and was aborted before it could end
        return told[told.index(_ENDS) + 1]
    if told.startswith(_JOINED) and not output.kept:
        _say(f"failed: the process ended itself by SIGABRT; {GO_ON}, in all processes")
        return EXIT_SIGNAL + number
    if told.startswith(_JOINED):
        _say(
            "failed: another process of this run was lost, or could not be reached for"
            f" {LOST_AFTER} seconds; {GO_ON}, in all processes (their number may be another)"
        )
        return EXIT_FAILED
    _say(
        f"error: {group} did not come together within {group.seconds} seconds: the coordinator does"
        " not answer, or not every process was started; check --coordinator, and start the same"
        " command once for each --process_id"
    )
    return EXIT_USAGE


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
