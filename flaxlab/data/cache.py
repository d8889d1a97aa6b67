"""Keeps decoded data sets as memory-mapped arrays, so that a second start decodes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from flaxlab.data.dataset import Split
from flaxlab.files import cache_folder, remove_abandoned
from flaxlab.lock import one_at_a_time

_UNFINISHED = ".tmp-"
_OF_FILES = "files-"
_DAMAGE = (OSError, ValueError, KeyError, EOFError)  # exceptions that reading an entry may raise
_SPLITS = ("train_images", "train_labels", "test_images", "test_labels")

_log = logging.getLogger(__name__)

Cached = tuple[list[np.ndarray], str]  # arrays and their fingerprint


def files_digest(root: Path, files: Iterable[Path], *more: object) -> str:
    """Returns 16 hex digits that change when files do, without reading them.

    They change with a file's path below `root`, its size or its modification time, and with `more`.
    """
    digest = hashlib.sha256(repr(more).encode())
    for path in files:
        status = path.stat()
        place = path.relative_to(root).as_posix()
        digest.update(repr((place, status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]


def lazy_fingerprint(root: Path, files: Iterable[Path], shape: tuple[int, ...]) -> str:
    """Returns a fingerprint of data that are too large to read for it, by `files_digest`.

    Copies that keep the times (`cp -p`, `rsync -t`) have the same one, wherever they are; other
    copies count as other data.
    """
    return f"{_OF_FILES}{files_digest(root, files, shape)}"


def is_lazy(fingerprint: str) -> bool:
    """Checks whether a fingerprint comes from `lazy_fingerprint`, not from decoded images."""
    return fingerprint.startswith(_OF_FILES)


def splits_through_cache(
    key: str, decode: Callable[[], tuple[Split, Split]]
) -> tuple[Split, Split, str]:
    """Returns the decoded splits of a data set from the cache.

    Args:
        key: see `through_cache`.
        decode: makes the training and the test split if they are not cached; may be lazy.

    Returns:
        The training split, the test split, both with memory-mapped images, and their fingerprint.
    """

    def make() -> list[np.ndarray]:
        return [array for split in decode() for array in (split.images[:], split.labels)]

    (images, labels, test_images, test_labels), fingerprint = through_cache(key, _SPLITS, make)
    train = Split(images, np.array(labels))
    return train, Split(test_images, np.array(test_labels)), fingerprint


def through_cache(
    key: str, names: Sequence[str], make: Callable[[], Sequence[np.ndarray]]
) -> Cached:
    """Returns arrays from the cache, which `make()` fills if needed.

    If several processes find it empty, one fills it and the others wait.

    Args:
        key: names the entry; must change when the data do.
        names: name of each array.
        make: makes the arrays; called again if the entry is damaged.

    Returns:
        Memory-mapped arrays, or those of `make()` if the cache cannot be written, and 16 hex digits
        of the sha256 of their contents, the same wherever the files are.
    """
    folder = cache_folder() / "data" / key
    with contextlib.suppress(*_DAMAGE):
        return _load(folder, names)
    with one_at_a_time(folder.with_name(f".{key}.lock")):
        if folder.is_dir():  # damaged, or another process has just made it
            try:
                return _load(folder, names)
            except _DAMAGE as error:
                _log.warning("warning: decoding again, %s is damaged (%s)", folder, error)
                shutil.rmtree(folder, ignore_errors=True)
        made = list(make())
        try:
            _store(folder, names, made)
            return _load(folder, names)
        except OSError as error:
            _log.warning("warning: decoded data are not cached (%s)", error)
            return made, arrays_fingerprint(made)


def arrays_fingerprint(arrays: Sequence[np.ndarray]) -> str:
    """Returns 16 hex digits of the sha256 of the shapes, dtypes and contents of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def _store(folder: Path, names: Sequence[str], arrays: Sequence[np.ndarray]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder.parent, f"{_UNFINISHED}*")
    temporary = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder.parent))
    try:
        for name, array in zip(names, arrays, strict=True):
            np.save(temporary / f"{name}.npy", array)
        (temporary / "about.json").write_text(
            json.dumps({"fingerprint": arrays_fingerprint(arrays)})
        )
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _load(folder: Path, names: Sequence[str]) -> Cached:
    paths = [folder / f"{name}.npy" for name in names]
    arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
    return arrays, json.loads((folder / "about.json").read_text())["fingerprint"]
