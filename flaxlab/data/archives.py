"""Reads the original files of Fashion-MNIST and CIFAR-10, or class folders in their place.

Nothing in a file is trusted: sizes, magic numbers, labels and checksums are checked, archives are
never unpacked to disk, and CIFAR-10's pickles are read by an unpickler that can only build arrays
and bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import re
import tarfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy._core.multiarray import _reconstruct  # rebuilds pickled arrays

from flaxlab.data.catalog import Entry
from flaxlab.data.dataset import Split
from flaxlab.data.folders import class_folders, lazy_split
from flaxlab.errors import UsageError

_CIFAR_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_CIFAR_RECORD = 1 + 32 * 32 * 3
# Of the whole archive: none are published for the binary batches in it.
_CIFAR_BINARY_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"

# Unpacked; the largest file of both data sets has 47 MB. Anything larger belongs to neither.
_LARGEST = 100_000_000


@dataclass(frozen=True)
class Source:
    """A data set as read from its original files.

    Attributes:
        train: the training split.
        test: the test split.
        title: what reports call it; distinguishes JPEG copies from the original.
        verified: True if the published checksums match, False if they do not, None if none are
            published for this form.
        form: what was read, for example "IDX files".
    """

    train: Split
    test: Split
    title: str
    verified: bool | None
    form: str


def read_source(entry: Entry, path: Path) -> Source:
    """Reads a data set from a folder or an archive, in whichever form it finds.

    Args:
        entry: the data set.
        path: the folder of the original files (packed by gzip or not), CIFAR-10's tar.gz, or a
            folder with "train" and "test", each with a folder of PNG or JPEG files per class.

    Raises:
        UsageError: no form of it is found, or a file is damaged.
    """
    if not path.exists():
        raise UsageError(f"--source={path} does not exist; give the folder or file to read")
    if path.is_dir() and (path / "train").is_dir() and (path / "test").is_dir():
        return _read_folders(entry, path)
    return {"fashion_mnist": _read_fashion_mnist, "cifar10": _read_cifar10}[entry.name](entry, path)


def _read_folders(entry: Entry, root: Path) -> Source:
    """Reads root/{train,test}/<class>/*; a class folder is named by its class or its label."""
    labels = {_plain(name): label for label, name in enumerate(entry.class_names)}
    labels |= {str(label): label for label in range(len(entry.class_names))}
    splits, lossy = [], False
    for part in ("train", "test"):
        folders = class_folders(root / part)
        numbers = [labels.get(_plain(name)) for name, _ in folders]
        if sorted(n for n in numbers if n is not None) != list(range(len(entry.class_names))):
            raise UsageError(
                f"the class folders of {root / part} are {', '.join(name for name, _ in folders)};"
                f" expected one for each of {', '.join(entry.class_names)}"
            )
        read = lazy_split(folders, entry.image_shape)
        splits.append(Split(read.images[:], np.array(numbers, np.int32)[read.labels]))
        lossy |= any(file.suffix.lower() != ".png" for _, files in folders for file in files)
    kind = "JPEG" if lossy else "PNG"
    title = f"{entry.title} ({kind})"
    return Source(splits[0], splits[1], title, None, f"class folders of {kind} files")


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _read_fashion_mnist(entry: Entry, root: Path) -> Source:
    contents = {}
    for name in entry.md5:
        file = next(filter(Path.is_file, (root / name, root / f"{name}.gz")), None)
        if file is None:
            raise UsageError(
                f"--source={root} holds neither {name} nor {name}.gz; expected the four IDX files"
                " of Fashion-MNIST, or train/ and test/ with a folder for each class"
            )
        contents[name] = _read_bytes(file)
    splits = []
    for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
        labels_name = name.replace("images-idx3", "labels-idx1")
        images = parse_idx(contents[name], 3, name)
        labels = parse_idx(contents[labels_name], 1, labels_name)
        splits.append(_checked_split(entry, images[..., None], labels, name))
    return Source(splits[0], splits[1], entry.title, _sums_match(entry, contents), "IDX files")


def parse_idx(content: bytes, dimensions: int, name: str) -> np.ndarray:
    """Parses a file of the IDX format (LeCun's MNIST page) that holds bytes.

    Returns:
        uint8, with `dimensions` axes.

    Raises:
        UsageError: the magic number or the length is wrong; the message starts with `name`.
    """
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, 8, dimensions])  # 8: unsigned bytes
    if content[:4] != magic or len(content) < header:
        raise UsageError(
            f"{name} is not an IDX file of {dimensions} dimensions: it starts with"
            f" {content[:4].hex()}, expected {magic.hex()}; get the file again"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, 4))
    needed = header + int(np.prod(shape, dtype=np.int64))
    if len(content) != needed:
        raise UsageError(
            f"{name} has {len(content)} bytes; its header promises {needed}; get the file again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read_cifar10(entry: Entry, path: Path) -> Source:
    if not path.is_dir():
        return _read_cifar10_archive(entry, path)
    for folder in (path, path / "cifar-10-batches-py", path / "cifar-10-batches-bin"):
        for suffix in ("", ".bin"):
            files = [folder / f"{name}{suffix}" for name in _CIFAR_BATCHES]
            if all(file.is_file() for file in files):
                return _cifar_source(entry, path, {file.name: file.read_bytes() for file in files})
    for archive in (path / "cifar-10-python.tar.gz", path / "cifar-10-binary.tar.gz"):
        if archive.is_file():
            return _read_cifar10_archive(entry, archive)
    raise UsageError(
        f"--source={path} holds no CIFAR-10: expected cifar-10-batches-py, cifar-10-batches-bin,"
        " one of their tar.gz, or train/ and test/ with a folder for each class"
    )


def _read_cifar10_archive(entry: Entry, path: Path) -> Source:
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                if name.removesuffix(".bin") not in _CIFAR_BATCHES:
                    continue
                _require_plain(path, member)
                if name in contents:
                    raise tarfile.ReadError(f"{name} is in it twice")
                file = archive.extractfile(member)
                contents[name] = file.read() if file else b""
            # The checksum of the packed data is at its end.
            while archive.fileobj and archive.fileobj.read(1 << 20):
                pass
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UsageError(
            f"{path} is not an intact tar archive ({error}); get the file again"
        ) from error
    source = _cifar_source(entry, path, contents)
    with path.open("rb") as packed:
        published = hashlib.file_digest(packed, "sha256").hexdigest() == _CIFAR_BINARY_SHA256
    return replace(source, verified=True) if published else source


def _require_plain(path: Path, member: tarfile.TarInfo) -> None:
    """Refuses a member that no archive of CIFAR-10 has.

    Nothing is unpacked to disk, so it could do no harm; but it shows damage, or a malicious file.
    """
    place = PurePosixPath(member.name)
    inside = not place.is_absolute() and ".." not in place.parts
    if not (member.isreg() and inside and member.size <= _LARGEST):
        raise UsageError(
            f"{path}: {member.name} is not a plain file of at most {_LARGEST:,} bytes inside the"
            " archive; get the archive from its home page"
        )


def _cifar_source(entry: Entry, path: Path, contents: dict[str, bytes]) -> Source:
    binary = any(name.endswith(".bin") for name in contents)
    names = [f"{name}.bin" if binary else name for name in _CIFAR_BATCHES]
    missing = [name for name in names if name not in contents]
    if missing:
        raise UsageError(f"{path} lacks {', '.join(missing)}; expected CIFAR-10's batches")
    decode = _decode_binary if binary else _decode_pickle

    def read(*batches: str) -> Split:
        pixels, labels = zip(*(decode(contents[batch], batch) for batch in batches), strict=True)
        # Stored by channel, then row, then column.
        images = np.concatenate(pixels).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return _checked_split(entry, images, np.concatenate(labels), batches[0])

    verified = None if binary else _sums_match(entry, contents)
    form = "binary batches" if binary else "Python batches"
    return Source(read(*names[:5]), read(names[5]), entry.title, verified, form)


def _decode_binary(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    if not content or len(content) % _CIFAR_RECORD:
        raise UsageError(
            f"{name} has {len(content)} bytes; expected a multiple of {_CIFAR_RECORD};"
            " get the file again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_RECORD)
    return records[:, 1:], records[:, 0]


def _decode_pickle(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = batch[b"data"], np.array(batch[b"labels"], np.uint8)
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), _CIFAR_RECORD - 1):
            raise ValueError(f"its data are {pixels.dtype}{pixels.shape} for {len(labels)} labels")
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UsageError(
            f"{name} is not a batch of CIFAR-10 ({error}); get the file again"
        ) from error
    return pixels, labels


def _encode_latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain values; refuses any other class or function."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns what rebuilds arrays; raises `UnpicklingError` for anything else."""
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _encode_latin1,  # how Python 3 writes bytes for Python 2
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return allowed[module, name]


def _checked_split(entry: Entry, images: np.ndarray, labels: np.ndarray, name: str) -> Split:
    if len(images) != len(labels) or not len(images):
        raise UsageError(f"{name}: {len(images)} images, but {len(labels)} labels")
    if images.shape[1:] != entry.image_shape:
        raise UsageError(
            f"{name}: images of {images.shape[1:]}; {entry.title} has {entry.image_shape}"
        )
    if labels.max() >= len(entry.class_names):
        raise UsageError(
            f"{name}: label {labels.max()}; {entry.title} has 0 to {len(entry.class_names) - 1}"
        )
    return Split(images, labels.astype(np.int32))


def _sums_match(entry: Entry, contents: dict[str, bytes]) -> bool:
    return all(hashlib.md5(contents[name]).hexdigest() == md5 for name, md5 in entry.md5.items())


def _read_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            content = file.read(_LARGEST + 1)
            if len(content) <= _LARGEST:
                return content
        raise UsageError(f"{path} is larger than {_LARGEST:,} bytes; get the original file")
    except (EOFError, OSError, zlib.error) as error:
        raise UsageError(f"{path} is a damaged gzip file ({error}); get it again") from error
