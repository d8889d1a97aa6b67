"""Loads the data set that `config.data` names, or prepares it first."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from flaxlab import files
from flaxlab.data.archives import Source, read_source
from flaxlab.data.cache import Decoded, files_key, fingerprinted, through_cache
from flaxlab.data.catalog import CATALOG, Entry
from flaxlab.data.dataset import Dataset, Split
from flaxlab.data.digits import load_digits
from flaxlab.data.download import download, reachable
from flaxlab.data.folders import load_folder
from flaxlab.data.lazy import beyond_memory
from flaxlab.data.splits import stratified_choice
from flaxlab.data.tfds_sets import PREFIX, load_tfds_set, newest_version
from flaxlab.errors import UsageError

# Subsets are the same in every run.
_FIXED_SEED = 0
_ORIGIN_FILE = "flaxlab_origin.json"
_UNFINISHED = ".flaxlab-"

_log = logging.getLogger(__name__)


def load_dataset(config: ConfigDict) -> Dataset:
    """Loads the data set that `config.data` names, with its subsets taken.

    Fashion-MNIST and CIFAR-10 are read from the TFDS folder. If they are not prepared there, they
    are prepared first: from the files of a system package, or by a download. Class folders and
    other TFDS data sets are decoded at once, or read lazily where `config.placement` is "grain"
    or, with "auto", where training crops at random or the images would take more than a quarter
    of the memory that the process may take.

    Raises:
        UsageError: the data set is missing and cannot be fetched, or it is damaged.
    """

    def is_lazy(decoded_bytes: int) -> bool:
        if config.placement == "auto":
            return config.augment.random_resized_crop > 0 or beyond_memory(decoded_bytes)
        return config.placement == "grain"

    shape = tuple(config.image_shape)
    if config.name == "digits":
        dataset = load_digits(shape)
    elif config.name == "folder":
        dataset = load_folder(Path(config.folder).expanduser(), shape, is_lazy)
    elif config.name.startswith(PREFIX):
        dataset = load_tfds_set(config.name, tfds_folder(config.data_dir), shape, is_lazy)
    else:
        dataset = _load_tfds(CATALOG[config.name], tfds_folder(config.data_dir))
    if dataset.image_shape != shape:
        raise UsageError(
            f"config.data.image_shape is {shape}, but the images of"
            f" {dataset.title} are {dataset.image_shape}; set it to that"
        )
    return dataset.with_splits(
        _subset(dataset.train, config.train_examples), _subset(dataset.test, config.test_examples)
    )


def tfds_folder(data_dir: str | None) -> Path:
    """Returns `data_dir`, else $TFDS_DATA_DIR, else TFDS's default, ~/tensorflow_datasets."""
    given = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(given).expanduser()


def prepared_folder(name: str, data_dir: Path) -> Path | None:
    """Returns the newest prepared version of a TFDS data set; None if there is none."""
    return newest_version(data_dir / name)


def prepare(entry: Entry, source: Path | None, data_dir: Path, allow_unverified: bool) -> Path:
    """Writes a TFDS data set from its original files.

    Args:
        entry: the data set.
        source: see `read_source`; None looks for a system package, then downloads.
        data_dir: the TFDS folder to write to.
        allow_unverified: accept files whose published checksums do not match.

    Returns:
        The folder of the version that was written.

    Raises:
        UsageError: the files are missing or damaged, or there is no network.
    """
    if source is None and entry.system_folder is not None and entry.system_folder.is_dir():
        source = entry.system_folder
    if source is not None:
        _log.info("preparing %s from %s", entry.title, source)
        return _write(entry, read_source(entry, source), data_dir, allow_unverified)
    if not reachable(entry.downloads[0].url):
        raise UsageError(_not_prepared(entry, data_dir))
    with _unfinished(data_dir) as folder:
        _log.info("downloading %s", entry.title)
        download(entry.downloads, folder)
        return _write(entry, read_source(entry, folder), data_dir, allow_unverified)


def _write(entry: Entry, source: Source, data_dir: Path, allow_unverified: bool) -> Path:
    if source.verified is False and not allow_unverified:
        raise UsageError(
            f"the {source.form} are not the published {entry.title}: their md5 sums differ; get the"
            " files again, or accept them with --allow_unverified"
        )
    if source.verified is None:
        _log.warning(
            "warning: no checksums are published for %s of %s: what they contain is not verified",
            source.form,
            entry.title,
        )
    # Imported here and below: TFDS takes seconds that a start from the cache should not pay.
    from flaxlab.data import tfds_store

    state = "verified by checksum" if source.verified else "not verified"
    title = f"{source.title} (unverified)" if source.verified is False else source.title
    origin = {"title": title, "origin": f"prepared from {source.form}, {state}"}
    # In a folder of its own, renamed when complete: without its origin, the data set would pass
    # for the original one.
    with _unfinished(data_dir) as unfinished:
        written = tfds_store.write(entry, source.train, source.test, unfinished)
        (written / _ORIGIN_FILE).write_text(json.dumps(origin, indent=2))
        folder = data_dir / written.relative_to(unfinished)
        folder.parent.mkdir(exist_ok=True)
        try:
            written.rename(folder)
        except OSError:
            if not (folder / _ORIGIN_FILE).is_file():  # else another process was faster
                raise
    return folder


@contextlib.contextmanager
def _unfinished(data_dir: Path) -> Iterator[Path]:
    data_dir.mkdir(parents=True, exist_ok=True)
    files.remove_abandoned(data_dir, f"{_UNFINISHED}*")
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=data_dir) as folder:
        yield Path(folder)


def _not_prepared(entry: Entry, data_dir: Path) -> str:
    package = " (2) apt install dataset-fashion-mnist;" if entry.system_folder else ""
    last = 3 if package else 2
    return (
        f"{entry.title} is not prepared in {data_dir} and its home page cannot be reached. Ways"
        f" out: (1) python -m flaxlab.prepare {entry.name} --source=DIR with the original files;"
        f"{package} ({last}) --config.data.name=digits, which is always there"
    )


def _load_tfds(entry: Entry, data_dir: Path) -> Dataset:
    folder = prepared_folder(entry.name, data_dir)
    if folder is None:
        folder = prepare(entry, None, data_dir, allow_unverified=False)

    def decode() -> Decoded:
        from flaxlab.data import tfds_store

        _log.info("decoding %s once; later starts read the decoded images", folder)
        return fingerprinted(*tfds_store.read(folder))

    version = folder.name
    key = files_key(sorted(path for path in folder.iterdir() if path.name != _ORIGIN_FILE))
    found = through_cache(f"{entry.name}-{version}-{key}", decode)
    origin = {"title": entry.title, "origin": "prepared by TFDS"}
    if (folder / _ORIGIN_FILE).is_file():
        origin = json.loads((folder / _ORIGIN_FILE).read_text())
    return Dataset(
        name=entry.name,
        title=origin["title"],
        version=version,
        origin=f"TFDS {entry.name} {version}, {origin['origin']}.",
        fingerprint=found.fingerprint,
        class_names=found.class_names,
        train=found.train,
        test=found.test,
    )


def _subset(split: Split, examples: int | None) -> Split:
    if examples is None or examples == len(split):
        return split
    return split.take(stratified_choice(split.labels, examples, _FIXED_SEED))
