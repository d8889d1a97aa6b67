"""Batches that are read, decoded and cropped ahead by grain; no other module imports it.

grain brings the threads or processes, and the order in which their batches come out. What is read
in which order is decided by `order.train_order`, and what is drawn for an example depends on
(seed, epoch, place in the epoch) alone: the batches are the same for any number of workers and of
processes, and from any step on. So (epoch, steps taken in it), which a checkpoint holds, is the
whole state of the iterator.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Generator
from dataclasses import dataclass

import grain
import numpy as np
from absl import flags

from flaxlab.batches.order import HostBatch, Order
from flaxlab.data.dataset import Split
from flaxlab.data.images import from_array, random_resized_crop
from flaxlab.data.lazy import Images, LazyImages
from flaxlab.errors import RunFailed
from flaxlab.hardware import available_cores

_BATCHES_AHEAD = 2

# Not through shared memory: containers have little of it, and of a stream that is closed early
# some would stay taken until the process ends.
_THROUGH_PIPES = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)


@dataclass(frozen=True)
class _Reader:
    """Reads the example at a place in the order; is sent to the workers."""

    split: Split
    numbers: np.ndarray
    places: np.ndarray
    seed: int
    epoch: int
    smallest_crop: float

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        number = int(self.numbers[index])
        return {"image": self._image(number, index), "label": self.split.labels[number]}

    def _image(self, number: int, index: int) -> np.ndarray:
        images = self.split.images
        if not self.smallest_crop:
            # Not `images[number]` of lazy ones: it would start threads for each picture.
            if isinstance(images, LazyImages):
                return images.picture(number)
            return np.asarray(images[number])
        crop = functools.partial(
            random_resized_crop,
            shape=_shape(images),
            smallest=self.smallest_crop,
            rng=np.random.default_rng((self.seed, self.epoch, int(self.places[index]))),
        )
        if isinstance(images, LazyImages):
            return images.picture(number, crop)
        return crop(from_array(images[number]))


def _shape(images: Images) -> tuple[int, int, int]:
    _, height, width, channels = images.shape
    return height, width, channels


def read_batches(
    split: Split,
    order: Order,
    start: int,
    columns: slice,
    seed: int,
    epoch: int,
    smallest_crop: float,
    workers: int,
) -> Generator[HostBatch]:
    """Yields the batches of an order, each ahead of being asked for. Close it to end early.

    Args:
        split: the examples.
        order: that of the whole epoch.
        start: number of batches to leave out.
        columns: the examples of each batch to read.
        seed: seed of the run.
        epoch: from 1.
        smallest_crop: see `random_resized_crop`; 0.0 for no crop: the images as they are.
        workers: processes that read; 0: as many threads of this process as there are cores.

    Yields:
        {"image": uint8 (b, H, W, C), "label": int32 (b,), "mask": bool (B,)} for b columns.

    Raises:
        UsageError: a picture is damaged.
        RunFailed: a worker process died.
    """
    places = np.arange(order.numbers.size).reshape(order.numbers.shape)[start:, columns]
    if not places.size:
        return
    numbers = order.numbers[start:, columns]
    reader = _Reader(split, numbers.ravel(), places.ravel(), seed, epoch, smallest_crop)
    examples, size = grain.MapDataset.range(places.size).map(reader), places.shape[1]
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain's own have their defaults
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        batches = examples.batch(size).to_iter_dataset(options)
        batches = grain.experimental.WithOptionsIterDataset(batches, _THROUGH_PIPES)
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(workers, per_worker_buffer_size=_BATCHES_AHEAD),
            worker_init_fn=_begin_worker,
        )
    else:
        ahead = _BATCHES_AHEAD * size
        options = grain.ReadOptions(num_threads=len(available_cores()), prefetch_buffer_size=ahead)
        batches = examples.to_iter_dataset(options).batch(size)
    iterator = iter(batches)
    try:
        for batch, mask in zip(iterator, order.mask[start:], strict=True):
            yield {**batch, "mask": mask}
    except RuntimeError as error:
        if "Worker process was terminated" not in str(error):
            raise
        raise RunFailed(
            "a process that reads the data died, perhaps because memory ran out; try a smaller"
            " --config.data.workers"
        ) from error
    finally:
        iterator.close()


def _begin_worker(worker: int, workers: int) -> None:
    """Has a worker live as long as the process that it works for, which is told of signals."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
