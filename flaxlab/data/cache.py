"""Decoded data sets as memory-mapped arrays, so that a second start need not decode anything."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from flaxlab.data.dataset import Split

Decoded = tuple[Split, Split, tuple[str, ...]]

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Returns $XDG_CACHE_HOME/flaxlab, or ~/.cache/flaxlab where the variable is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaxlab"


def fingerprint(files: Iterable[Path], *more: object) -> str:
    """Returns 16 hex digits that change when a file's name, size or time of change does."""
    digest = hashlib.sha256(repr(more).encode())
    for path in files:
        status = path.stat()
        digest.update(repr((str(path), status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]


def through_cache(key: str, decode: Callable[[], Decoded]) -> Decoded:
    """Returns (train, test, class names) from the cache, after `decode()` has filled it.

    Args:
        key: names the entry; must change when the data do.
        decode: makes the arrays.

    Returns:
        Splits whose images are memory-mapped. If the cache cannot be written, the decoded ones.
    """
    folder = cache_folder() / "data" / key
    if not folder.is_dir():
        decoded = decode()
        try:
            _store(folder, decoded)
        except OSError as error:
            _log.warning("warning: decoded images are not cached (%s)", error)
            return decoded
    return _load(folder)


def _store(folder: Path, decoded: Decoded) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
    try:
        for name, split in zip(("train", "test"), decoded[:2], strict=True):
            np.save(temporary / f"{name}_images.npy", split.images)
            np.save(temporary / f"{name}_labels.npy", split.labels)
        (temporary / "class_names.json").write_text(json.dumps(decoded[2]))
        temporary.rename(folder)
    except FileExistsError:
        pass  # another process was faster
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _load(folder: Path) -> Decoded:
    splits = [
        Split(
            np.load(folder / f"{name}_images.npy", mmap_mode="r", allow_pickle=False),
            np.load(folder / f"{name}_labels.npy", allow_pickle=False),
        )
        for name in ("train", "test")
    ]
    names = json.loads((folder / "class_names.json").read_text())
    return splits[0], splits[1], tuple(names)
