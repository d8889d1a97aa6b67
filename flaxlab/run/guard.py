"""Runs one process of a group in a child, since JAX may end a process without a Python exception.

If the others do not come, or one of them is lost, JAX's runtime aborts the process from C++ and
dumps its stack. So the process that the user started forks another one, which computes. The first
one, the guard, passes signals on to it and explains its end in one line and by its exit code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from flaxlab.command_line import EXIT_FAILED, EXIT_SIGNAL, EXIT_USAGE, run_command
from flaxlab.errors import GO_ON
from flaxlab.run.group import LOST_AFTER, Group, join

# Processes that fail for the same reason should each report it before they miss this one.
_GRACE_SECONDS = 2

# The child sends this to the guard once it has joined the group.
_JOINED = b"j"

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)

# The parts of JAX's runtime that abort when a process is lost, as its log names them.
_ABORTING = ("coordination", "preemption_sync", "client.h")


def run_guarded(run: Callable[[Callable[[], None]], None], group: Group) -> NoReturn:
    """Runs a process of a group in a child process, then exits with the child's exit code.

    Args:
        run: what the child does. Its argument is a function that joins the group.
        group: the group.
    """
    ours, theirs = socket.socketpair()
    # Collects what C++ writes to stderr: if a process is lost, JAX writes a page.
    with tempfile.TemporaryFile() as dump:
        child = os.fork()
        if child == 0:
            ours.close()
            os.setpgid(0, 0)  # else Ctrl-C would reach the child twice: also through the guard
            sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
            os.dup2(dump.fileno(), 2)
            _run_child(run, group, theirs)
        theirs.close()

        def forward(received: int, frame: object) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, received)

        for number in _FORWARDED:
            signal.signal(number, forward)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        told = b"".join(iter(lambda: ours.recv(1), b""))
        dump.seek(0)
        text = dump.read().decode(errors="replace")
    sys.exit(_exit_code(status, told, text, group))


def _run_child(
    run: Callable[[Callable[[], None]], None], group: Group, guard: socket.socket
) -> NoReturn:
    def end_with_the_guard() -> None:
        with contextlib.suppress(OSError):
            guard.recv(1)  # the guard never writes: this returns when it has ended
        os._exit(EXIT_FAILED)

    def join_and_tell() -> None:
        join(group)
        guard.sendall(_JOINED)

    threading.Thread(target=end_with_the_guard, daemon=True).start()
    code = EXIT_FAILED
    try:
        run_command(lambda _: run(join_and_tell), [])
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    if code == 0:
        import jax

        jax.distributed.shutdown()  # waits for the others
    else:
        # Sent first: if another process ends earlier, JAX aborts this one while it waits.
        guard.sendall(bytes([code]))
        time.sleep(_GRACE_SECONDS)
    sys.stdout.flush()
    # Not by an exception: while Python shuts down, JAX would wait for processes that never come.
    os._exit(code)


def _exit_code(status: int, told: bytes, dump: str, group: Group) -> int:
    """Returns the exit code of the child; if a signal ended it, explains that on stderr."""
    if status >= 0:
        return status
    if own_code := told.removeprefix(_JOINED):
        return own_code[0]
    aborted = status == -signal.SIGABRT
    if aborted and not told:
        code = EXIT_USAGE
        line = (
            f"error: {group} did not come together within {group.seconds} seconds: the coordinator"
            " does not answer, or not every process was started; check --coordinator, and start the"
            " same command once for each --process_id"
        )
    elif aborted and any(part in dump for part in _ABORTING):
        code = EXIT_FAILED
        line = (
            "failed: another process of this run was lost, or could not be reached for"
            f" {LOST_AFTER} seconds; {GO_ON}, in all processes (their number may change)"
        )
    else:
        code = EXIT_SIGNAL - status
        name = signal.Signals(-status).name
        line = f"{dump}failed: {name} ended the process; {GO_ON}, in all processes"
    print(line, file=sys.stderr)
    return code
