"""How the batches reach the devices: out of arrays that lie there, or streamed ahead of time.

Several batches are stacked for each call of a program (`train.steps_per_execution`). For training,
all ways give the same batches, bit for bit; they only differ in where examples are gathered: on
the device by their index, on the host out of an array, or by grain's threads or processes out of
files.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jax
import numpy as np

from flaxlab.batches.devices import Devices
from flaxlab.batches.order import HostBatch, Order, eval_order, gather, train_order
from flaxlab.data.dataset import Split
from flaxlab.data.lazy import LazyImages
from flaxlab.errors import UsageError

# K batches of B examples: "mask", bool (K, B), on the host; of a streamed split "image", uint8
# (K, B, H, W, C), and "label", int32 (K, B), on the devices, see `Devices.put_batches`; of a
# resident one "index", int32 (K, B), on the host, and "resident", {"image", "label"} of the whole
# split on the devices: a program is given references to them and copies nothing.
Batches = Mapping[str, Any]

# Of the memory of an accelerator; the rest is for the model. On a CPU, data and model share it.
_RESIDENT_SHARE = 0.25
_RESIDENT_BYTES_ON_CPU = 2**30

_BATCHES_AHEAD = 2

T = TypeVar("T")


def take_batch(batches: Batches, number: Any, devices: Devices) -> dict[str, jax.Array]:
    """Returns one batch inside a program: {"image", "label", "mask"}, split by example.

    Args:
        batches: those of one call.
        number: which of them, a number or an int32 scalar.
        devices: the devices that share the batch.
    """
    batch = {key: values[number] for key, values in batches.items() if key != "resident"}
    index = batch.pop("index", None)
    if index is not None:
        batch |= {key: values[index] for key, values in batches["resident"].items()}
    if devices.count == 1 or devices.mapped:
        return batch
    return jax.lax.with_sharding_constraint(batch, devices.rows)


@dataclass(frozen=True)
class Reading:
    """How examples are read out of their files.

    Attributes:
        workers: processes that read; 0: threads of this one.
        smallest_crop: see `flaxlab.data.images.random_resized_crop`; 0.0 for no crop.
    """

    workers: int = 0
    smallest_crop: float = 0.0


@dataclass(frozen=True)
class Feed:
    """The batches of one split on their way to the devices.

    Attributes:
        split: the examples.
        batch_size: examples of a batch, B.
        stacked: number of batches for one call of a program, K; the last of a pass may have fewer.
        devices: the devices that compute.
        resident: {"image", "label"} of the whole split on each device; {} if it is streamed.
        reading: how grain reads for training; None: the split is read as an array.
    """

    split: Split
    batch_size: int
    stacked: int
    devices: Devices
    resident: Mapping[str, jax.Array] = field(repr=False)
    reading: Reading | None = None

    def train_batches(self, seed: int, epoch: int, start: int = 0) -> Generator[Batches]:
        """Yields the batches of one training epoch. Close it to end streaming early.

        Args:
            seed: seed of the run.
            epoch: from 1.
            start: number of batches to leave out.
        """
        order = train_order(len(self.split), self.batch_size, seed, epoch)
        if self.reading is None:
            return self._in_order(order.after(start))
        # Imported here: grain takes a second that other starts should not pay.
        from flaxlab.batches.grain import read_batches

        columns = self.devices.columns(self.batch_size)
        crop, workers = self.reading.smallest_crop, self.reading.workers
        read = read_batches(self.split, order, start, columns, seed, epoch, crop, workers)
        return _ahead(self._streamed(read), _BATCHES_AHEAD)

    def eval_batches(self) -> Generator[Batches]:
        """Yields every example once, in order. Close it to end early."""
        return self._in_order(eval_order(len(self.split), self.batch_size))

    def _in_order(self, order: Order) -> Generator[Batches]:
        if self.resident:
            return self._indexed(order)
        columns = self.devices.columns(self.batch_size)
        return _ahead(self._streamed(gather(self.split, order, columns)), _BATCHES_AHEAD)

    def _indexed(self, order: Order) -> Generator[Batches]:
        for start in range(0, len(order.numbers), self.stacked):
            index, mask = (rows[start : start + self.stacked] for rows in order)
            yield {"index": index, "mask": mask, "resident": self.resident}

    def _streamed(self, batches: Generator[HostBatch]) -> Generator[Batches]:
        with contextlib.closing(batches):
            while group := list(itertools.islice(batches, self.stacked)):
                stacks = {key: np.stack([batch[key] for batch in group]) for key in group[0]}
                # The mask is small, and the loop counts by it: it stays on the host.
                mask = stacks.pop("mask")
                yield {"mask": mask, **self.devices.put_batches(stacks, self.batch_size)}


def make_feed(
    split: Split,
    batch_size: int,
    stacked: int,
    devices: Devices,
    placement: str,
    reading: Reading = Reading(),
) -> Feed:
    """Returns the feed of `split`, with its examples on the devices or not.

    Args:
        split: the examples.
        batch_size: examples of a batch.
        stacked: number of batches for one call of a program.
        devices: the devices that compute.
        placement: "resident", "streamed", "grain", or "auto": grain where the images are lazy or
            to be cropped; else resident where they take no more than a quarter of an accelerator's
            memory, or 1 GiB on a CPU; streamed with several processes, of which none is to hold
            what it does not read.
        reading: how grain reads.

    Raises:
        ValueError: `placement` is none of these.
        UsageError: "resident" with several processes.
    """
    placement = place(split, devices, placement, reading)
    if placement not in ("resident", "streamed", "grain"):
        raise ValueError(f"placement is {placement!r}; expected resident, streamed, grain or auto")
    resident = {}
    if placement == "resident" and devices.shared:
        raise UsageError(
            "config.data.placement=resident would put all examples on the devices of each process;"
            " use streamed or grain with several"
        )
    if placement == "resident":
        resident = devices.put({"image": split.images, "label": split.labels})
    read = reading if placement == "grain" else None
    return Feed(split, batch_size, stacked, devices, resident, read)


def place(split: Split, devices: Devices, placement: str, reading: Reading = Reading()) -> str:
    """Returns where a split waits: `placement`, or what "auto" means for it; see `make_feed`."""
    if placement != "auto":
        return placement
    if reading.smallest_crop or isinstance(split.images, LazyImages):
        return "grain"
    fits = not devices.shared and split.images.nbytes <= _room(devices)
    return "resident" if fits else "streamed"


def _room(devices: Devices) -> float:
    own = devices.mesh.local_devices
    statistics = own[0].memory_stats() or {}  # None on a CPU
    if "bytes_limit" in statistics:
        return _RESIDENT_SHARE * statistics["bytes_limit"]
    return _RESIDENT_BYTES_ON_CPU / len(own)  # they share its memory


def _ahead(items: Generator[T], count: int) -> Generator[T]:
    """Yields `items`, with `count` of them in the making on another thread."""
    end = object()
    thread = ThreadPoolExecutor(max_workers=1)
    try:
        pending: deque[Future[Any]] = deque(thread.submit(next, items, end) for _ in range(count))
        while (item := pending.popleft().result()) is not end:
            pending.append(thread.submit(next, items, end))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
        items.close()
