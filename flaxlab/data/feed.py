"""How the batches reach the device: out of arrays that lie there, or streamed to it ahead of time.

A program is given chunks of several batches and reads one of them with `read_batch`. Resident and
streamed chunks hold the same batches, bit for bit; they only differ in where examples are
gathered: on the device by their indices, or on the host.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jax
import numpy as np

from flaxlab.data.dataset import Split
from flaxlab.data.pipeline import Plan, eval_plan, train_plan

# "index": int32 (K, B), number of the example in its split; "mask": bool (K, B), false for
# examples that only fill up; "steps": int32 scalar, how many of the K batches are to be run. Of a
# streamed split also "image": uint8 (K, B, H, W, C) and "label": int32 (K, B), on the device.
Chunk = Mapping[str, Any]

# Of the memory of an accelerator; the rest is for the model. On a CPU, data and model share it.
_RESIDENT_SHARE = 0.25
_RESIDENT_BYTES_ON_CPU = 2**30

_CHUNKS_AHEAD = 2

T = TypeVar("T")


@dataclass(frozen=True)
class Feed:
    """The batches of one split on their way to the device.

    Attributes:
        split: the examples.
        batch_size: examples of a batch, B.
        batches: of a chunk, K.
        device: that computes.
        arrays: {"image", "label"} of the whole split on the device; {} if it is streamed.
    """

    split: Split
    batch_size: int
    batches: int
    device: jax.Device
    arrays: Mapping[str, jax.Array] = field(repr=False)

    @property
    def resident(self) -> bool:
        """Whether the examples lie on the device."""
        return bool(self.arrays)

    def train_chunks(self, seed: int, epoch: int) -> Iterator[Chunk]:
        """Yields the chunks of one training epoch."""
        return self._chunks(train_plan(len(self.split), self.batch_size, seed, epoch))

    def eval_chunks(self) -> Iterator[Chunk]:
        """Yields chunks that hold every example once, in order."""
        return self._chunks(eval_plan(len(self.split), self.batch_size))

    def _chunks(self, plan: Plan) -> Iterator[Chunk]:
        cut = _cut(plan, self.batches)
        return cut if self.resident else _ahead(map(self._gather, cut), _CHUNKS_AHEAD)

    def _gather(self, chunk: Chunk) -> Chunk:
        index = chunk["index"]
        examples = {"image": self.split.images[index], "label": self.split.labels[index]}
        # Mask and length are small, and the loop looks at them: they stay on the host.
        return {**chunk, **jax.device_put(examples, self.device)}


def make_feed(
    split: Split, batch_size: int, batches: int, device: jax.Device, placement: str
) -> Feed:
    """Returns the feed of `split`, with its examples on `device` or not.

    Args:
        split: the examples.
        batch_size: examples of a batch.
        batches: of a chunk.
        device: that computes.
        placement: "resident", "streamed", or "auto": resident where the images take no more than
            a quarter of the accelerator's memory, or 1 GiB on a CPU.
    """
    if placement == "auto":
        placement = "resident" if split.images.nbytes <= _room(device) else "streamed"
    arrays = {}
    if placement == "resident":
        arrays = jax.device_put({"image": split.images, "label": split.labels}, device)
    return Feed(split, batch_size, batches, device, arrays)


def read_batch(arrays: Mapping[str, jax.Array], chunk: Chunk, number: Any) -> dict[str, jax.Array]:
    """Reads one batch of a chunk, inside of a program.

    Args:
        arrays: of the feed that the chunk is from.
        chunk: from `train_chunks` or `eval_chunks`.
        number: of the batch in the chunk, from 0.

    Returns:
        {"image": uint8 (B, H, W, C), "label": int32 (B,), "mask": bool (B,)}.
    """
    batch = {key: values[number] for key, values in chunk.items() if key != "steps"}
    index = batch.pop("index")
    return batch | {key: values[index] for key, values in arrays.items()}


def _room(device: jax.Device) -> float:
    statistics = device.memory_stats() or {}  # None on a CPU
    if "bytes_limit" in statistics:
        return _RESIDENT_SHARE * statistics["bytes_limit"]
    return _RESIDENT_BYTES_ON_CPU


def _cut(plan: Plan, batches: int) -> Iterator[Chunk]:
    """Cuts a plan into chunks of one shape; what the last one lacks is never run."""
    for start in range(0, len(plan.numbers), batches):
        index, mask = (rows[start : start + batches] for rows in plan)
        missing = ((0, batches - len(index)), (0, 0))
        yield {
            "index": np.pad(index, missing),
            "mask": np.pad(mask, missing),
            "steps": np.int32(len(index)),
        }


def _ahead(items: Iterator[T], count: int) -> Iterator[T]:
    """Yields `items`, with `count` of them in the making on another thread."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as thread:
        pending: deque[Future[Any]] = deque(thread.submit(next, items, end) for _ in range(count))
        while (item := pending.popleft().result()) is not end:
            pending.append(thread.submit(next, items, end))
            yield item
