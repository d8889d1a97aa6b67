"""Loads the data set that `config.data` names, and prepares it first if needed."""

from __future__ import annotations

import http.client
import json
import logging
import shutil
import tempfile
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path

from ml_collections import ConfigDict
from rich.progress import wrap_file

from flaxlab import files
from flaxlab.data.archives import Source, read_source
from flaxlab.data.arrays import NOT_KEPT, load_npz
from flaxlab.data.cache import files_digest, splits_through_cache
from flaxlab.data.catalog import CATALOG, Entry
from flaxlab.data.dataset import Dataset
from flaxlab.data.digits import load_digits
from flaxlab.data.folders import load_folder
from flaxlab.data.lazy import beyond_memory
from flaxlab.data.shape import image_shape
from flaxlab.data.splits import subset
from flaxlab.data.tfds_sets import (
    PREFIX,
    decode_prepared,
    load_tfds_set,
    prepared_folder,
    tfds_folder,
)
from flaxlab.errors import UsageError

_ORIGIN_FILE = "flaxlab_origin.json"
_UNFINISHED = ".flaxlab-"

_log = logging.getLogger(__name__)


def load_dataset(config: ConfigDict) -> Dataset:
    """Loads the data set that `config.data` names, with its subsets taken.

    Fashion-MNIST and CIFAR-10 are read from the TFDS folder. If they are not there, they are
    prepared first, from the files of a system package or by a download. Class folders and other
    TFDS data sets are decoded at once, or read lazily if `config.placement` is "grain" or, with
    "auto", if training crops at random or the images would take more than a quarter of the memory
    that the process may use.

    Raises:
        UsageError: the data set is missing and cannot be fetched, or it is damaged.
    """

    def is_lazy(decoded_bytes: int) -> bool:
        if config.placement == "auto":
            return config.augment.random_resized_crop > 0 or beyond_memory(decoded_bytes)
        return config.placement == "grain"

    shape = image_shape(config)
    if config.name == "digits":
        dataset = load_digits(shape)
    elif config.name == "folder":
        dataset = load_folder(Path(config.folder).expanduser(), shape, is_lazy)
    elif config.name == "parquet":
        # Imported here: pyarrow takes a fifth of a second, which other data should not cost.
        from flaxlab.data.parquet import load_parquet

        dataset = load_parquet(Path(config.folder).expanduser(), shape)
    elif config.name == "npz":
        dataset = load_npz(Path(config.file).expanduser(), shape)
    elif config.name == "arrays":
        raise UsageError(NOT_KEPT)
    elif config.name.startswith(PREFIX):
        dataset = load_tfds_set(config.name, tfds_folder(config.data_dir), shape, is_lazy)
    else:
        dataset = _load_tfds(CATALOG[config.name], tfds_folder(config.data_dir))
    if dataset.image_shape != shape:
        raise UsageError(
            f"config.data.image_shape is {shape}, but the images of"
            f" {dataset.title} are {dataset.image_shape}; set it to that"
        )
    return take_subsets(dataset, config)


def take_subsets(dataset: Dataset, config: ConfigDict) -> Dataset:
    """Returns the data set with as many examples of each split as `config.data` says."""
    return replace(
        dataset,
        train=subset(dataset.train, config.train_examples),
        test=subset(dataset.test, config.test_examples),
    )


def prepare(entry: Entry, source: Path | None, data_dir: Path, allow_unverified: bool) -> Path:
    """Writes a TFDS data set from its original files.

    Args:
        entry: the data set.
        source: see `read_source`; None: the files of a system package, else a download.
        data_dir: the TFDS folder to write to.
        allow_unverified: accept files that do not match the published checksums.

    Returns:
        The folder of the version that was written.

    Raises:
        UsageError: the files are missing or damaged, or there is no network.
    """
    if source is None and entry.system_folder is not None and entry.system_folder.is_dir():
        source = entry.system_folder
    if source is None and not reachable(entry.downloads[0]):
        raise UsageError(_not_prepared(entry, data_dir))
    data_dir.mkdir(parents=True, exist_ok=True)
    files.remove_abandoned(data_dir, f"{_UNFINISHED}*")
    # In a folder of its own, renamed when complete: without its origin file, the data set would
    # pass as the original one.
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=data_dir) as name:
        unfinished = Path(name)
        if source is None:
            source = unfinished / "downloads"
            _download(entry, source)
        _log.info("preparing %s from %s", entry.title, source)
        found = read_source(entry, source)
        written = _write(entry, found, unfinished, allow_unverified)
        folder = data_dir / written.relative_to(unfinished)
        folder.parent.mkdir(exist_ok=True)
        try:
            written.rename(folder)
        except OSError:
            if not (folder / _ORIGIN_FILE).is_file():  # else another process was faster
                raise
    return folder


def _write(entry: Entry, source: Source, data_dir: Path, allow_unverified: bool) -> Path:
    if source.verified is False and not allow_unverified:
        raise UsageError(
            f"the {source.form} are not the published {entry.title}: their md5 sums differ; get the"
            " files again, or accept them with --allow_unverified"
        )
    if source.verified is None:
        _log.warning(
            "warning: no checksums are published for %s of %s: their contents are not verified",
            source.form,
            entry.title,
        )
    # Imported here: TFDS takes seconds, which a start from the cache should not cost.
    from flaxlab.data import tfds_store

    state = "verified by checksum" if source.verified else "not verified"
    title = f"{source.title} (unverified)" if source.verified is False else source.title
    origin = {"title": title, "origin": f"prepared from {source.form}, {state}"}
    written = tfds_store.write(entry, source.train, source.test, data_dir)
    (written / _ORIGIN_FILE).write_text(json.dumps(origin, indent=2))
    return written


def reachable(url: str, seconds: float = 4.0) -> bool:
    """Checks within `seconds` whether a server answers at `url`.

    It does so in a thread, because looking up a host name has no time limit of its own.
    """
    answers: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=seconds).close()
            answers.append(True)
        except (OSError, ValueError, http.client.HTTPException):
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers == [True]


def _download(entry: Entry, folder: Path) -> None:
    _log.info("downloading %s", entry.title)
    folder.mkdir()
    for url in entry.downloads:
        path = folder / url.rsplit("/", 1)[1]
        try:
            with urllib.request.urlopen(url, timeout=30) as response, path.open("wb") as out:
                size = int(response.headers["Content-Length"] or 0)
                with wrap_file(response, size, description=path.name, transient=True) as shown:
                    shutil.copyfileobj(shown, out)
                if out.tell() < size:
                    raise ConnectionError(f"{out.tell():,} of {size:,} bytes")
        except (OSError, http.client.HTTPException) as error:
            raise UsageError(f"the download of {url} broke off ({error}); start again") from error


def _not_prepared(entry: Entry, data_dir: Path) -> str:
    package = " (2) apt install dataset-fashion-mnist;" if entry.system_folder else ""
    last = 3 if package else 2
    return (
        f"{entry.title} is not prepared in {data_dir} and its home page cannot be reached. What"
        f" helps: (1) python -m flaxlab.prepare {entry.name} --source=DIR with the original files;"
        f"{package} ({last}) --config.data.name=digits, which is always available"
    )


def _load_tfds(entry: Entry, data_dir: Path) -> Dataset:
    folder = prepared_folder(entry.name, data_dir)
    if folder is None:
        folder = prepare(entry, None, data_dir, allow_unverified=False)
    version = folder.name
    originals = sorted(path for path in folder.iterdir() if path.name != _ORIGIN_FILE)
    key = files_digest(folder, originals, folder.resolve())
    train, test, fingerprint = splits_through_cache(
        f"{entry.name}-{version}-{key}",
        lambda: decode_prepared(folder, ("train", "test"), entry.image_shape),
    )
    origin = {"title": entry.title, "origin": "prepared by TFDS"}
    if (folder / _ORIGIN_FILE).is_file():
        origin = json.loads((folder / _ORIGIN_FILE).read_text())
    return Dataset(
        name=entry.name,
        title=origin["title"],
        version=version,
        origin=f"TFDS {entry.name} {version}, {origin['origin']}.",
        fingerprint=fingerprint,
        class_names=entry.class_names,
        train=train,
        test=test,
    )
