"""Locks a folder for one process, or lets one process make what the others wait for."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from flaxlab.errors import UsageError

_FILE = ".lock"

# Seconds to wait before saying so, and between two tries.
_PATIENCE, _BETWEEN_TRIES = 10.0, 0.02

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of `folder` during the block.

    The kernel releases the lock when its process ends, however it ends. The lock is advisory, and
    on a network file system only as good as that file system's `flock`.

    Raises:
        UsageError: another process holds the lock; the message names its number and host.
    """
    path = folder / _FILE
    while True:
        file = _open(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _describe(os.read(file, 1000))
            os.close(file)
            raise UsageError(
                f"{folder} is in use by {holder}; wait for it, or use another --workdir"
            ) from error
        if _is_still_there(file, path):
            break
        os.close(file)
    try:
        about = {"process": os.getpid(), "host": socket.gethostname()}
        with contextlib.suppress(OSError):  # on a full disk the lock holds without a name in it
            path.write_text(json.dumps(about))
        yield
    finally:
        _release(file, path)


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Waits until no other process is in a block with the same lock file.

    As with `locked`, a process that has ended holds nothing. If the file cannot be made, or the
    file system has no locks, nobody waits: the block must be correct without the lock.

    Args:
        path: the lock file, which is removed at the end.
    """
    file = _take(path)
    try:
        yield
    finally:
        if file is not None:
            _release(file, path)


def _take(path: Path) -> int | None:
    """Returns the open lock file once it is locked; None if that is impossible."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = _open(path)
        except OSError:
            return None
        try:
            _wait(file, path)
        except OSError:
            os.close(file)
            return None
        except BaseException:  # interrupted while waiting
            os.close(file)
            raise
        if _is_still_there(file, path):
            return file
        os.close(file)


def _wait(file: int, path: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_BETWEEN_TRIES)
    _log.info("waiting for another process that is making %s", path.stem.lstrip("."))
    fcntl.flock(file, fcntl.LOCK_EX)


def is_locked(folder: Path) -> bool:
    """Returns whether a process holds the lock of `folder` at this moment.

    To find out, it takes the lock for an instant: do not ask about a folder that another process
    may be about to lock.
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


def _open(path: Path) -> int:
    # For reading: a file that is open for writing would keep a disk from being unmounted.
    return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)


def _release(file: int, path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
    os.close(file)


def _is_still_there(file: int, path: Path) -> bool:
    """Returns whether `path` is still the open file: its last holder may just have removed it."""
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
