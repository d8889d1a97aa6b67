"""Images that stay in their files until they are needed: for data sets larger than memory.

`LazyImages` are indexed like the array of all decoded images, so code that takes a `Split`
(scoring, reports, subsets, holdouts) works with both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flaxlab.data.images import decode, fit_image
from flaxlab.hardware import available_cores, available_memory

# A data set that takes more than this share of memory when decoded is read lazily. The rest is for
# the model, the operating system's file cache, and a second copy while arrays are made.
_SHARE_OF_MEMORY = 0.25


def read_file(paths: Sequence[str], number: int) -> tuple[bytes, str]:
    """Returns the content and the path of one of several files.

    Args:
        paths: paths of the files, as text: a million `Path`s would take several times the memory.
        number: index of the file.
    """
    return Path(paths[number]).read_bytes(), paths[number]


@dataclass(frozen=True)
class LazyImages:
    """Images that are decoded by several threads each time they are indexed.

    `images[index]` takes what NumPy takes for the first axis (a number, a slice, an array of
    numbers of any shape, a mask) and returns uint8 arrays: `flaxlab.data.images.fit_image` brings
    each picture to its shape.

    Attributes:
        read: (number) -> the content of a PNG or JPEG file and its name for error messages. Any
            thread may call it, and it can be pickled for other processes.
        numbers: int (N,), number of each image's file.
        image_shape: (H, W, C).
    """

    read: Callable[[int], tuple[bytes, str]]
    numbers: np.ndarray
    image_shape: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return (len(self.numbers), *self.image_shape)

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

        with ThreadPoolExecutor(max(1, min(len(available_cores()), chosen.size))) as threads:
            for _ in threads.map(fill, range(chosen.size), chosen.ravel().tolist()):
                pass  # raises what `fill` raised
        return images.reshape(*chosen.shape, *self.image_shape)

    def take(self, indices: np.ndarray) -> LazyImages:
        """Returns the images at `indices` without decoding them."""
        return replace(self, numbers=self.numbers[indices])

    def picture(
        self, index: int, bring: Callable[[Image.Image], np.ndarray] | None = None
    ) -> np.ndarray:
        """Decodes the picture at `index` in the calling thread, unlike `images[index]`.

        Args:
            index: number of the image.
            bring: brings the picture to uint8 (H, W, C); None: `fit_image`.
        """
        return self._decode(int(self.numbers[index]), bring or self._fit)

    def _fit(self, picture: Image.Image) -> np.ndarray:
        return fit_image(picture, self.image_shape)

    def _decode(self, number: int, bring: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
        return decode(*self.read(number), bring)


Images = np.ndarray | LazyImages  # the images of a split, uint8 (N, H, W, C)


def beyond_memory(nbytes: int) -> bool:
    """Checks whether decoded images would take over a quarter of this process's memory."""
    return nbytes > _SHARE_OF_MEMORY * available_memory()
