"""Files that are written whole or not at all, and the place of those that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Writes to a temporary name in the same folder, then renames: no reader sees a half file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Writes UTF-8 text like `write_bytes`."""
    write_bytes(path, content.encode())


def cache_folder() -> Path:
    """Returns $XDG_CACHE_HOME/flaxlab, or ~/.cache/flaxlab where the variable is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaxlab"
