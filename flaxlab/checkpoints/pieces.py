"""Reads large arrays in pieces, so that neither an array nor its chunks are ever whole in memory.

By default Orbax stores an array as a single chunk of a Zarr array (version 2), compressed by
Zstandard. TensorStore decompresses a chunk as a whole, and then has the array in memory twice.
Here each chunk is decompressed as a stream.

Format: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorstore
import zstandard

from flaxlab.errors import UsageError

Pieces = Callable[[], Iterable[np.ndarray]]  # reads the values of an array, at each call again

_PIECE = 1 << 22  # bytes of values at a time
_READ = 1 << 20  # bytes of a file at a time


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """Turns whatever Orbax and TensorStore raise for damaged files into a `UsageError`."""
    try:
        yield
    except Exception as error:  # their errors have no common class
        reason = str(error).split("\n")[0][:200]
        raise UsageError(f"{name} cannot be read ({reason})") from error


def find_pieces(array: tensorstore.TensorStore, name: str) -> Pieces | None:
    """Returns a function that reads the values of a stored array in pieces.

    Args:
        array: the array, opened by TensorStore.
        name: what error messages call it.

    Returns:
        () -> one-dimensional arrays, in the order in which they are stored; raises a `UsageError`
        if a chunk cannot be read. None if the array is stored in another way than Orbax's default,
        which only TensorStore can read: another format, codec or byte order, or chunks that do not
        divide it.
    """
    spec: Any = array.spec().to_json()
    metadata, store, dtype = spec["metadata"], array.kvstore, array.dtype.numpy_dtype
    if (
        store is None
        or spec["driver"] != "zarr"
        or (metadata["compressor"] or {}).get("id") != "zstd"
        or metadata["dtype"] not in (dtype.str, dtype.name)
        or metadata["order"] != "C"
        or metadata["filters"]
        or any(size % part for size, part in zip(array.shape, metadata["chunks"], strict=True))
    ):
        return None
    chunk: list[int] = metadata["chunks"]
    counts = (size // part for size, part in zip(array.shape, chunk, strict=True))
    places = itertools.product(*map(range, counts))
    keys = [metadata["dimension_separator"].join(map(str, place)) for place in places]

    def read() -> Iterator[np.ndarray]:
        for key in keys:
            with reading(name):
                yield from _read_chunk(_Compressed(store, key), math.prod(chunk), dtype)

    return read


def _read_chunk(compressed: Any, size: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    source = zstandard.ZstdDecompressor().stream_reader(compressed, read_size=_READ)
    left, step = size * dtype.itemsize, _PIECE // dtype.itemsize * dtype.itemsize
    while left:
        values = source.read(min(left, step))
        if len(values) < min(left, step):
            raise ValueError(f"its last {left - len(values)} bytes are missing")
        left -= len(values)
        yield np.frombuffer(values, dtype)
    if source.read(1):
        raise ValueError("a chunk holds more values than it should")


class _Compressed:
    """A stored value, read like a file."""

    def __init__(self, store: tensorstore.KvStore, key: str) -> None:
        self._store, self._key, self._position = store, key, 0

    def read(self, size: int) -> bytes:
        """Reads the next `size` bytes, or the rest if there are fewer."""
        try:
            found = self._read_to(self._position + size)
        except ValueError:  # the value is shorter; TensorStore does not tell its length
            found = self._read_to(None)
        self._position += len(found)
        return found

    def _read_to(self, stop: int | None) -> bytes:
        return self._store.read(self._key, byte_range=slice(self._position, stop)).result().value
