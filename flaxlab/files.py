"""Writes files whole or not at all, makes folders, and says where the cache is."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from flaxlab.errors import UsageError

_TEMPORARY = ".tmp"
_ABANDONED_SECONDS = 24 * 3600


def write_bytes(path: Path, content: bytes) -> None:
    """Writes to a temporary name in the same folder, then renames: no reader sees a half file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            # Otherwise a power failure could leave the new name without its content.
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that killed processes left in `folder`.

    No other process may be writing there.
    """
    for path in folder.glob(f".*{_TEMPORARY}"):
        path.unlink(missing_ok=True)


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Removes folders that killed processes left in a place where other processes may be working.

    A folder that has not changed for a day counts as abandoned: even a slow download takes less.
    """
    for path in folder.glob(pattern):
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def write_text(path: Path, content: str) -> None:
    """Writes UTF-8 text like `write_bytes`."""
    write_bytes(path, content.encode())


def make_folder(folder: Path, option: str) -> None:
    """Makes the folder that a command writes to, and those around it, where they are missing.

    Args:
        folder: the folder.
        option: option that named it, for the message: "--to".

    Raises:
        UsageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{option}={folder} cannot be made ({error})") from error


def cache_folder() -> Path:
    """Returns $XDG_CACHE_HOME/flaxlab, or ~/.cache/flaxlab where the variable is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaxlab"
