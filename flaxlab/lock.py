"""A folder that one process at a time writes to."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from flaxlab.errors import UsageError

_FILE = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of `folder` inside of the block.

    The kernel gives the lock back when its process ends, however it ends. It is advisory, and on
    a network file system as good as that file system's `flock`.

    Raises:
        UsageError: another process has it; the message names its number and its host.
    """
    path = folder / _FILE
    while True:
        # For reading: a file that is open for writing would keep a disk from being unmounted.
        file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _describe(os.read(file, 1000))
            os.close(file)
            raise UsageError(
                f"{folder} is in use by {holder}; wait for it, or take another --workdir"
            ) from error
        if _is_the_one(file, path):
            break
        os.close(file)  # its holder has just removed it
    try:
        about = {"process": os.getpid(), "host": socket.gethostname()}
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
            path.write_text(json.dumps(about))
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(file)


def is_locked(folder: Path) -> bool:
    """Says whether a process has `folder`, at this moment.

    To find out, it takes the lock for an instant: do not ask of a folder that another process may
    be about to take.
    """
    try:
        file = os.open(folder / _FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _is_the_one(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _describe(content: bytes) -> str:
    try:
        about = json.loads(content)
        return f"process {about['process']} on {about['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
