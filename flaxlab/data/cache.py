"""Keeps decoded data sets as memory-mapped arrays, so that a second start decodes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flaxlab.data.dataset import Split
from flaxlab.files import cache_folder, remove_abandoned, write_bytes
from flaxlab.lock import one_at_a_time

_UNFINISHED = ".tmp-"
_OF_FILES = "files-"
_DAMAGE = (OSError, ValueError, KeyError, EOFError)  # exceptions that reading an entry may raise

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoded:
    """The arrays of a data set.

    Attributes:
        train: the training split.
        test: the test split.
        class_names: for each label.
        fingerprint: 16 hex digits of the sha256 of all images and labels in their order; the same
            wherever the files lie.
    """

    train: Split
    test: Split
    class_names: tuple[str, ...]
    fingerprint: str


def fingerprinted(train: Split, test: Split, class_names: tuple[str, ...]) -> Decoded:
    """Adds the fingerprint to decoded arrays."""
    digest = hashlib.sha256()
    for split in (train, test):
        for array in (split.images, split.labels):
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
    return Decoded(train, test, class_names, digest.hexdigest()[:16])


def files_key(files: Iterable[Path], *more: object) -> str:
    """Returns 16 hex digits that change when a file's place, size or time of change does.

    Cheap, since no file is read: it tells whether the files have changed since they were decoded.
    """
    return _digest(((path, str(path.resolve())) for path in files), more)


def files_fingerprint(root: Path, files: Iterable[Path], *more: object) -> str:
    """Returns a fingerprint of data that are too large to read for it.

    "files-" and 16 hex digits that change when a file's place below `root`, its size or its time
    of change does. Copies that keep the times (`cp -p`, `rsync -t`) have the same one, wherever
    they lie; other copies count as other data.
    """
    places = ((path, path.relative_to(root).as_posix()) for path in files)
    return f"{_OF_FILES}{_digest(places, more)}"


def _digest(places: Iterable[tuple[Path, str]], more: tuple[object, ...]) -> str:
    digest = hashlib.sha256(repr(more).encode())
    for path, place in places:
        status = path.stat()
        digest.update(repr((place, status.st_size, status.st_mtime_ns)).encode())
    return digest.hexdigest()[:16]


def is_lazy(fingerprint: str) -> bool:
    """Says whether a fingerprint comes from `files_fingerprint`, not from decoded images."""
    return fingerprint.startswith(_OF_FILES)


def labels_through_cache(key: str, read: Callable[[], np.ndarray]) -> np.ndarray:
    """Returns labels, int32 (N,), from the cache, which `read()` fills if needed.

    Like `through_cache`, without the images.
    """
    path = cache_folder() / "labels" / f"{key}.npy"
    with contextlib.suppress(*_DAMAGE):
        return np.load(path, allow_pickle=False)
    with one_at_a_time(path.with_name(f".{path.name}.lock")):
        try:
            return np.load(path, allow_pickle=False)  # another process may have made it
        except FileNotFoundError:
            pass
        except _DAMAGE as error:
            _log.warning("warning: reading the labels again, %s is damaged (%s)", path, error)
        labels = read()
        buffer = io.BytesIO()
        np.save(buffer, labels)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, buffer.getvalue())
        except OSError as error:
            _log.warning("warning: the labels are not cached (%s)", error)
        return labels


def through_cache(key: str, decode: Callable[[], Decoded]) -> Decoded:
    """Returns a data set from the cache, which `decode()` fills if needed.

    If several processes find it empty, one decodes and the others wait.

    Args:
        key: names the entry; must change when the data do.
        decode: makes the arrays; called again if the entry is damaged.

    Returns:
        Splits whose images are memory-mapped. If the cache cannot be written: the decoded ones.
    """
    folder = cache_folder() / "data" / key
    with contextlib.suppress(*_DAMAGE):
        return _load(folder)
    with one_at_a_time(folder.with_name(f".{key}.lock")):
        if folder.is_dir():  # it is damaged, or another process has made it
            try:
                return _load(folder)
            except _DAMAGE as error:
                _log.warning("warning: decoding again, %s is damaged (%s)", folder, error)
                shutil.rmtree(folder, ignore_errors=True)
        made = decode()
        try:
            _store(folder, made)
            return _load(folder)
        except OSError as error:
            _log.warning("warning: decoded images are not cached (%s)", error)
            return made


def _store(folder: Path, made: Decoded) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder.parent, f"{_UNFINISHED}*")
    temporary = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder.parent))
    try:
        for name, split in (("train", made.train), ("test", made.test)):
            np.save(temporary / f"{name}_images.npy", np.asarray(split.images))
            np.save(temporary / f"{name}_labels.npy", split.labels)
        about = {"class_names": made.class_names, "fingerprint": made.fingerprint}
        (temporary / "about.json").write_text(json.dumps(about))
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _load(folder: Path) -> Decoded:
    train, test = (
        Split(
            np.load(folder / f"{name}_images.npy", mmap_mode="r", allow_pickle=False),
            np.load(folder / f"{name}_labels.npy", allow_pickle=False),
        )
        for name in ("train", "test")
    )
    about = json.loads((folder / "about.json").read_text())
    return Decoded(train, test, tuple(about["class_names"]), about["fingerprint"])
