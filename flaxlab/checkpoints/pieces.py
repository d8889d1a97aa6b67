"""Reads large arrays in pieces, so that neither an array nor its chunks are ever whole in memory.

By default Orbax stores an array as a single chunk of a Zarr array (version 2), compressed by
Zstandard. TensorStore decompresses a chunk as a whole, and then has the array in memory twice.
Here each chunk is decompressed as a stream.

Format: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorstore
import zstandard

from flaxlab.errors import UsageError

_PIECE = 1 << 22  # bytes of values at a time
_READ = 1 << 20  # bytes of a file at a time


@dataclass(frozen=True)
class StoredPieces:
    """The values of an array as one-dimensional arrays, in the order in which they are stored.

    Each iteration reads them again, and raises a `UsageError` if a chunk cannot be read.

    Attributes:
        name: what error messages call the array.
        store: holds the chunks.
        chunks: keys of the chunks.
        chunk_size: number of values in each chunk.
        dtype: dtype of the values.
    """

    name: str
    store: tensorstore.KvStore
    chunks: tuple[str, ...]
    chunk_size: int
    dtype: np.dtype

    def __iter__(self) -> Iterator[np.ndarray]:
        for key in self.chunks:
            try:
                yield from self._read(key)
            except Exception as error:  # TensorStore's errors have no common class
                reason = str(error).split("\n")[0][:200]
                raise UsageError(f"{self.name} cannot be read ({key}: {reason})") from error

    def _read(self, key: str) -> Iterator[np.ndarray]:
        compressed: Any = _Compressed(self.store, key)
        source = zstandard.ZstdDecompressor().stream_reader(compressed, read_size=_READ)
        itemsize = self.dtype.itemsize
        left, step = self.chunk_size * itemsize, _PIECE // itemsize * itemsize
        while left:
            values = source.read(min(left, step))
            if len(values) < min(left, step):
                raise ValueError(f"its last {left - len(values)} bytes are missing")
            left -= len(values)
            yield np.frombuffer(values, self.dtype)
        if source.read(1):
            raise ValueError("it holds more values than the array")


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


def find_pieces(array: tensorstore.TensorStore, name: str) -> StoredPieces | None:
    """Returns the pieces of a stored array.

    Args:
        array: the array, opened by TensorStore.
        name: what error messages call it.

    Returns:
        None if the array is stored in another way than Orbax's default, which TensorStore alone
        can read: another format, codec or byte order, chunks that do not divide it or are missing.
    """
    stored, dtype = array.spec().to_json(), array.dtype.numpy_dtype
    metadata, chunk = stored["metadata"], array.chunk_layout.read_chunk.shape
    if (
        stored["driver"] != "zarr"
        or (metadata["compressor"] or {}).get("id") != "zstd"
        or metadata["dtype"] not in (dtype.str, dtype.name)
        or metadata["order"] != "C"
        or metadata["filters"]
        or any(size % part for size, part in zip(array.shape, chunk, strict=True))
    ):
        return None
    counts = (size // part for size, part in zip(array.shape, chunk, strict=True))
    separator = metadata["dimension_separator"]
    keys = tuple(
        separator.join(map(str, place)) for place in itertools.product(*map(range, counts))
    )
    if not all(array.kvstore.read(key, byte_range=slice(0, 1)).result().value for key in keys):
        return None
    return StoredPieces(name, array.kvstore, keys, math.prod(chunk), dtype)
