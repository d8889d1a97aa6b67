"""Images that stay in their files until they are asked for: data sets larger than the memory.

`LazyImages` reads like the array of all decoded images, so that code that takes a `Split` (scoring,
reports, subsets, holdouts) works with both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from flaxlab.data.images import decode, fit_image
from flaxlab.machine import available_cores, available_memory

# A data set that takes more than this share of the memory when decoded is read lazily. The rest is
# for the model, for the cache of the files and for a second copy while arrays are made.
_SHARE_OF_MEMORY = 0.25


class Images(Protocol):
    """The images of a split, uint8 (N, H, W, C): an array, or `LazyImages`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""

    @property
    def dtype(self) -> np.dtype:
        """Always uint8."""

    @property
    def nbytes(self) -> int:
        """Bytes of all images when decoded."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class Records(Protocol):
    """PNG or JPEG files, read one at a time by any thread; pickled to reach other processes."""

    def __len__(self) -> int: ...

    def read(self, number: int) -> bytes:
        """Returns the content of one."""

    def name(self, number: int) -> str:
        """Returns what messages call it."""


@dataclass(frozen=True)
class FileRecords:
    """Files on the disk.

    Attributes:
        paths: paths of the files, as text: a million of `Path` take several times the memory.
    """

    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, number: int) -> bytes:
        """Returns the content of a file."""
        return Path(self.paths[number]).read_bytes()

    def name(self, number: int) -> str:
        """Returns the path of a file."""
        return self.paths[number]


@dataclass(frozen=True)
class LazyImages:
    """Images that are decoded each time they are asked for, by several threads.

    `images[index]` takes what NumPy takes for the first axis (a number, a slice, an array of
    numbers of any shape, a mask) and returns uint8 arrays: each picture is brought to its shape
    by `flaxlab.data.images.fit_image`.

    Attributes:
        records: where the pictures are.
        numbers: int (N,), the record of each image.
        image_shape: (H, W, C).
    """

    records: Records
    numbers: np.ndarray
    image_shape: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return (len(self.numbers), *self.image_shape)

    @property
    def dtype(self) -> np.dtype:
        """Always uint8."""
        return np.dtype(np.uint8)

    @property
    def nbytes(self) -> int:
        """Bytes of all images when decoded."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, index: Any, /) -> np.ndarray:
        chosen = np.asarray(self.numbers[index])
        images = np.empty((chosen.size, *self.image_shape), np.uint8)

        def fill(place: int, number: int) -> None:
            images[place] = self._decode(number, self._fit)

        with ThreadPoolExecutor(max(1, min(thread_count(), chosen.size))) as threads:
            for _ in threads.map(fill, range(chosen.size), chosen.ravel().tolist()):
                pass  # raises what `fill` raised
        return images.reshape(*chosen.shape, *self.image_shape)

    def take(self, indices: np.ndarray) -> LazyImages:
        """Returns the images at `indices`; nothing is decoded."""
        return replace(self, numbers=self.numbers[indices])

    def picture(
        self, index: int, bring: Callable[[Image.Image], np.ndarray] | None = None
    ) -> np.ndarray:
        """Returns what `bring`, or else `fit_image`, makes of the picture at `index`.

        uint8 (H, W, C). It runs in the calling thread, unlike `images[index]`.
        """
        return self._decode(int(self.numbers[index]), bring or self._fit)

    def _fit(self, picture: Image.Image) -> np.ndarray:
        return fit_image(picture, self.image_shape)

    def _decode(self, number: int, bring: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
        return decode(self.records.read(number), self.records.name(number), bring)


def thread_count() -> int:
    """Returns how many threads decode at a time: one for each core that this process may use."""
    return len(available_cores())


def beyond_memory(nbytes: int) -> bool:
    """Says whether `nbytes` of decoded images are over a quarter of the memory for this process."""
    return nbytes > _SHARE_OF_MEMORY * available_memory()
