"""Reads the values of a stored array in pieces, however large the array and its chunks are.

Orbax stores an array in the chunks of a Zarr array (version 2 or 3), each compressed by Zstandard,
and unless told otherwise in a single one. TensorStore decompresses a chunk as a whole, and then has
the array in memory twice. As a stream, neither the compressed bytes nor the values are ever whole.

Formats: zarr-specs.readthedocs.io/en/latest/v2/v2.0.html and .../v3/core/index.html.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorstore
import zstandard

from flaxlab.errors import UsageError

_PIECE = 1 << 22  # bytes of values at a time
_READ = 1 << 20  # bytes of a file at a time


@dataclass(frozen=True)
class StoredPieces:
    """The values of an array as one-dimensional arrays, in the order in which they are stored.

    Each iteration reads them anew, and raises a `UsageError` for a chunk that cannot be read.

    Attributes:
        name: what an error calls the array.
        store: holds the chunks.
        chunks: their keys.
        chunk_size: number of values in each.
        dtype: dtype of the values.
        compressed: by Zstandard; else a chunk is the values as they are.
        sharded: a chunk is a shard of one inner chunk (Zarr 3), followed by the place of that.
    """

    name: str
    store: tensorstore.KvStore
    chunks: tuple[str, ...]
    chunk_size: int
    dtype: np.dtype
    compressed: bool
    sharded: bool

    def __iter__(self) -> Iterator[np.ndarray]:
        for key in self.chunks:
            try:
                yield from self._read(key)
            except Exception as error:  # what TensorStore raises has no common class
                reason = str(error).split("\n")[0][:200]
                raise UsageError(f"{self.name} cannot be read ({key}: {reason})") from error

    def _read(self, key: str) -> Iterator[np.ndarray]:
        source: Any = _Value(self.store, key, *(self._inner_chunk(key) if self.sharded else ()))
        if self.compressed:
            source = zstandard.ZstdDecompressor().stream_reader(source, read_size=_READ)
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

    def _inner_chunk(self, key: str) -> tuple[int, int]:
        # Offset and length as little-endian uint64, then a checksum of four bytes.
        index = self.store.read(key, byte_range=slice(-20, None)).result().value
        start, length = np.frombuffer(index, "<u8", 2).tolist()
        return start, start + length


class _Value:
    """A range of bytes of a stored value, read like a file."""

    def __init__(
        self, store: tensorstore.KvStore, key: str, start: int = 0, end: int | None = None
    ) -> None:
        self._store, self._key, self._at, self._end = store, key, start, end

    def read(self, size: int) -> bytes:
        """Reads the next `size` bytes; fewer where the range ends."""
        stop = self._at + size
        if self._end is not None:
            found = self._range(min(stop, self._end))
        else:
            try:
                found = self._range(stop)
            except ValueError:  # it is shorter than that; nothing tells its length
                found = self._range(None)
        self._at += len(found)
        return found

    def _range(self, stop: int | None) -> bytes:
        if stop == self._at:
            return b""
        return self._store.read(self._key, byte_range=slice(self._at, stop)).result().value


class _Layout(NamedTuple):
    chunk: tuple[int, ...]  # shape
    prefix: str
    separator: str
    compressed: bool
    sharded: bool


def find_pieces(
    tree: Path, name: str, shape: Sequence[int], dtype: np.dtype
) -> StoredPieces | None:
    """Finds where the values of an array are stored.

    Args:
        tree: the folder of its tree.
        name: the array's name in Orbax's metadata, for example "params.output.kernel".
        shape: the array's shape.
        dtype: the array's dtype.

    Returns:
        None for what only Orbax knows how to read: other codecs and byte orders, chunks that do
        not divide the array, or are missing.
    """
    files = {"driver": "file", "path": f"{tree.absolute()}/"}
    in_one_store = (tree / "manifest.ocdbt").is_file()  # OCDBT; else a folder for each array
    try:
        store = tensorstore.KvStore.open(
            {"driver": "ocdbt", "base": files} if in_one_store else files
        ).result()
        layout = _zarr2(store, name, dtype) or _zarr3(store, name, dtype)
        if layout is None or any(n % part for n, part in zip(shape, layout.chunk, strict=True)):
            return None
        counts = (n // part for n, part in zip(shape, layout.chunk, strict=True))
        places = itertools.product(*map(range, counts))
        keys = tuple(
            f"{name}/{layout.prefix}{layout.separator.join(map(str, place))}" for place in places
        )
        if not all(store.read(key, byte_range=slice(0, 1)).result().value for key in keys):
            return None
    except Exception:  # damaged or unknown: Orbax says what is wrong, if anything is
        return None
    return StoredPieces(
        name=f"{name} in {tree}",
        store=store,
        chunks=keys,
        chunk_size=math.prod(layout.chunk),
        dtype=dtype,
        compressed=layout.compressed,
        sharded=layout.sharded,
    )


def _zarr2(store: tensorstore.KvStore, name: str, dtype: np.dtype) -> _Layout | None:
    array = _json(store, f"{name}/.zarray")
    if array is None:
        return None
    codec = (array["compressor"] or {"id": "none"})["id"]
    if (
        array["dtype"] not in (dtype.str, dtype.name)
        or array["order"] != "C"
        or array["filters"]
        or codec not in ("none", "zstd")
    ):
        return None
    separator = array.get("dimension_separator", ".")
    return _Layout(tuple(array["chunks"]), "", separator, codec == "zstd", sharded=False)


def _zarr3(store: tensorstore.KvStore, name: str, dtype: np.dtype) -> _Layout | None:
    array = _json(store, f"{name}/zarr.json")
    if array is None:
        return None
    shape = array["chunk_grid"]["configuration"]["chunk_shape"]
    keys = array["chunk_key_encoding"]
    (shard,) = array["codecs"]
    inner = shard["configuration"]
    codecs = [codec["name"] for codec in inner["codecs"]]
    index = [codec["name"] for codec in inner["index_codecs"]]
    order = inner["codecs"][0].get("configuration", {}).get("endian", "little")
    if (
        array["data_type"] != dtype.name
        or keys["name"] != "default"
        or shard["name"] != "sharding_indexed"
        or inner["chunk_shape"] != shape
        or inner.get("index_location", "end") != "end"
        or (codecs, order) not in ((["bytes"], "little"), (["bytes", "zstd"], "little"))
        or index != ["bytes", "crc32c"]
    ):
        return None
    separator = keys.get("configuration", {}).get("separator", "/")
    return _Layout(tuple(shape), f"c{separator}", separator, "zstd" in codecs, sharded=True)


def _json(store: tensorstore.KvStore, key: str) -> dict[str, Any] | None:
    found = store.read(key).result()
    return json.loads(found.value) if found.state == "value" else None
