"""How the batches reach the devices: out of arrays that lie there, or streamed ahead of time.

A program is given chunks of several batches and reads one of them with `read_batch`. All ways give
the same batches, bit for bit; they only differ in where examples are gathered: on the device by
their indices, on the host out of an array, or by grain's threads or processes out of files.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jax
import numpy as np

from flaxlab.batches.devices import Layout
from flaxlab.batches.order import Plan, eval_plan, train_plan
from flaxlab.data.dataset import Split
from flaxlab.data.lazy import LazyImages
from flaxlab.errors import UsageError

# "index": int32 (K, B), number of the example in its split; "mask": bool (K, B), false for
# examples that only fill up; both on the host. Of a streamed split also "image": uint8
# (K, B, H, W, C) and "label": int32 (K, B), on the devices; see `Layout.put_chunk`.
Chunk = Mapping[str, Any]

# Of the memory of an accelerator; the rest is for the model. On a CPU, data and model share it.
_RESIDENT_SHARE = 0.25
_RESIDENT_BYTES_ON_CPU = 2**30

_CHUNKS_AHEAD = 2

T = TypeVar("T")


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
        batches: number of batches in a chunk, K; the last chunk of a pass may have fewer.
        layout: the devices that compute.
        arrays: {"image", "label"} of the whole split on each device; {} if it is streamed.
        reading: how grain reads for training; None: the split is read as an array.
    """

    split: Split
    batch_size: int
    batches: int
    layout: Layout
    arrays: Mapping[str, jax.Array] = field(repr=False)
    reading: Reading | None = None

    @property
    def resident(self) -> bool:
        """Whether the examples lie on the devices."""
        return bool(self.arrays)

    def train_chunks(self, seed: int, epoch: int, start: int = 0) -> Generator[Chunk]:
        """Yields the chunks of one training epoch. Close it to end streaming early.

        Args:
            seed: seed of the run.
            epoch: from 1.
            start: number of batches to leave out, a multiple of `batches`, or all of them.
        """
        plan = train_plan(len(self.split), self.batch_size, seed, epoch)
        if self.reading is not None:
            return _ahead(self._read(self.reading, plan, seed, epoch, start), _CHUNKS_AHEAD)
        return self._chunks(Plan(*(rows[start:] for rows in plan)))

    def eval_chunks(self) -> Generator[Chunk]:
        """Yields chunks that hold every example once, in order. Close it to end early."""
        return self._chunks(eval_plan(len(self.split), self.batch_size))

    def _chunks(self, plan: Plan) -> Generator[Chunk]:
        cut = _cut(plan, self.batches)
        return cut if self.resident else _ahead((self._gather(c) for c in cut), _CHUNKS_AHEAD)

    def _read(
        self, reading: Reading, plan: Plan, seed: int, epoch: int, start: int
    ) -> Generator[Chunk]:
        # Imported here: grain takes a second that other starts should not pay.
        from flaxlab.batches.grain import read_batches

        columns = self.layout.columns(self.batch_size)
        batches = read_batches(
            self.split,
            plan,
            start,
            columns,
            seed,
            epoch,
            reading.smallest_crop,
            reading.workers,
        )
        with contextlib.closing(batches):
            for chunk in _cut(Plan(*(rows[start:] for rows in plan)), self.batches):
                read = [next(batches) for _ in chunk["mask"]]
                examples = {key: np.stack([batch[key] for batch in read]) for key in read[0]}
                yield {**chunk, **self.layout.put_chunk(examples, self.batch_size)}

    def _gather(self, chunk: Chunk) -> Chunk:
        index = chunk["index"][:, self.layout.columns(self.batch_size)]
        examples = {"image": self.split.images[index], "label": self.split.labels[index]}
        # The mask is small, and the loop counts it: it stays on the host.
        return {**chunk, **self.layout.put_chunk(examples, self.batch_size)}


def make_feed(
    split: Split,
    batch_size: int,
    batches: int,
    layout: Layout,
    placement: str,
    reading: Reading = Reading(),
) -> Feed:
    """Returns the feed of `split`, with its examples on the devices or not.

    Args:
        split: the examples.
        batch_size: examples of a batch.
        batches: number of batches in a chunk.
        layout: the devices that compute.
        placement: "resident", "streamed", "grain", or "auto": grain where the images are lazy or
            to be cropped; else resident where they take no more than a quarter of an accelerator's
            memory, or 1 GiB on a CPU; streamed with several processes, of which none is to hold
            what it does not read.
        reading: how grain reads.

    Raises:
        ValueError: `placement` is none of these.
        UsageError: "resident" with several processes.
    """
    if placement == "auto" and (reading.smallest_crop or isinstance(split.images, LazyImages)):
        placement = "grain"
    if placement == "auto":
        fits = not layout.shared and split.images.nbytes <= _room(layout)
        placement = "resident" if fits else "streamed"
    if placement not in ("resident", "streamed", "grain"):
        raise ValueError(f"placement is {placement!r}; expected resident, streamed, grain or auto")
    arrays = {}
    if placement == "resident" and layout.shared:
        raise UsageError(
            "config.data.placement=resident would put all examples on the devices of each process;"
            " use streamed or grain with several"
        )
    if placement == "resident":
        arrays = layout.put({"image": split.images, "label": split.labels})
    read = reading if placement == "grain" else None
    return Feed(split, batch_size, batches, layout, arrays, read)


def read_batch(arrays: Mapping[str, jax.Array], chunk: Chunk, number: Any) -> dict[str, jax.Array]:
    """Reads one batch of a chunk, inside of a program.

    Args:
        arrays: the arrays of the chunk's feed.
        chunk: from `train_chunks` or `eval_chunks`.
        number: number of the batch in the chunk, from 0.

    Returns:
        {"image": uint8 (B, H, W, C), "label": int32 (B,), "mask": bool (B,)}.
    """
    batch = {key: values[number] for key, values in chunk.items()}
    index = batch.pop("index")
    return batch | {key: values[index] for key, values in arrays.items()}


def _room(layout: Layout) -> float:
    own = layout.mesh.local_devices
    statistics = own[0].memory_stats() or {}  # None on a CPU
    if "bytes_limit" in statistics:
        return _RESIDENT_SHARE * statistics["bytes_limit"]
    return _RESIDENT_BYTES_ON_CPU / len(own)  # they share its memory


def _cut(plan: Plan, batches: int) -> Generator[Chunk]:
    """Cuts a plan into chunks of `batches`; the last one may have fewer."""
    for start in range(0, len(plan.numbers), batches):
        index, mask = (rows[start : start + batches] for rows in plan)
        yield {"index": index, "mask": mask}


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
