"""Locks a folder for one process, or lets one process make what others wait for."""

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

# Seconds to wait silently, and between two tries.
_PATIENCE, _BETWEEN_TRIES = 10.0, 0.02

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of `folder` during the block.

    The kernel releases the lock when its process ends, however it ends. The lock is advisory, and
    on a network file system only as good as that file system's `flock`.

    Raises:
        UsageError: another process holds it; the message names its number and host.
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


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Waits until no other process is in the block with the same lock file.

    As with `locked`, a dead process holds nothing. If the file cannot be made, or the file system
    has no locks, nobody waits: the block must be correct without the lock.

    Args:
        path: path of the lock file, which is removed at the end.
    """
    file = _take(path)
    try:
        yield
    finally:
        if file is not None:
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(file)


def _take(path: Path) -> int | None:
    """Returns the open lock file once it is locked; None if that is impossible."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
        except OSError:
            return None
        try:
            _wait(file, path)
        except OSError:
            os.close(file)
            return None
        except BaseException:  # told to stop while waiting
            os.close(file)
            raise
        if _is_the_one(file, path):
            return file
        os.close(file)  # its holder has just removed it


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
    """Says whether a process holds `folder` at this moment.

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
