"""Writes files whole or not at all, makes folders, and finds the cache folder."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from flaxlab.errors import UsageError

_TEMPORARY = ".tmp"
_ABANDONED_SECONDS = 24 * 3600


def to_path(given: Any, name: str) -> Path:
    """Returns a path that Python code gives; `name` is that of its argument.

    Raises:
        UsageError: it is no path.
    """
    if not isinstance(given, str | os.PathLike):
        raise UsageError(f"{name} is of the type {type(given).__name__}; expected a path")
    return Path(given).expanduser()


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name, then renames it: readers never see half a file."""
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
    """Removes folders that killed processes left where other processes may be working.

    A folder that has not changed for a day counts as abandoned: even a slow download takes less.

    Args:
        folder: where to look.
        pattern: matches the names of such folders, see `Path.glob`.
    """
    for path in folder.glob(pattern):
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def write_text(path: Path, content: str) -> None:
    """Writes UTF-8 text like `write_bytes`."""
    write_bytes(path, content.encode())


def make_folder(folder: Path, option: str) -> None:
    """Makes the folder that a command writes to, and its missing parents.

    Args:
        folder: the folder.
        option: the option that names it, for the message: "--to".

    Raises:
        UsageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{option}={folder} cannot be made ({error})") from error


def cache_folder() -> Path:
    """Returns $XDG_CACHE_HOME/flaxlab, or ~/.cache/flaxlab if the variable is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaxlab"
