"""How the pure steps are run: compiled once, with the old state's memory reused for the new one.

On several devices the same programs run under `jit` with sharded batches: XLA cuts the work and
adds up what the devices find, the statistics of batch normalization included. Under `pmap`, the
older way, each device runs the step on its share, and the step itself adds up, over `axis_name`.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax

from flaxlab.batches.devices import Layout
from flaxlab.batches.feed import Chunk, Feed, read_batch
from flaxlab.training.metrics import Metrics, no_metrics
from flaxlab.training.state import TrainState
from flaxlab.training.step import EvalStep, TrainStep

Arrays = Mapping[str, jax.Array]

_CALLS_AHEAD = 1
_SECONDS_AHEAD = 0.5


class Programs(NamedTuple):
    """The compiled programs of a run.

    Attributes:
        train: (state, totals, arrays, chunk) -> (state after the chunk's steps, totals + their
            metrics). It takes the memory of `state`, which may not be used afterwards. A shorter
            last chunk of an epoch has a program of its own.
        evaluate: (state, totals, chunk) -> (totals + metrics, logits of the chunk's only batch),
            for streamed chunks.
        place: puts a tree where the programs expect it. Arrays that come from elsewhere (drawn,
            restored) would make `jit` compile again for their placement.
    """

    train: Callable[[TrainState, Metrics, Arrays, Chunk], tuple[TrainState, Metrics]]
    evaluate: Callable[[TrainState, Metrics, Chunk], tuple[Metrics, jax.Array]]
    place: Callable[[Any], Any]


def compile_programs(train_step: TrainStep, eval_step: EvalStep, layout: Layout) -> Programs:
    """Returns the steps compiled for the devices of `layout`; each when it is first called.

    Args:
        train_step: made for `layout.axis_name`.
        eval_step: works on the examples that it is given alone.
        layout: the devices that share each batch.
    """

    def train(
        state: TrainState, totals: Metrics, arrays: Arrays, chunk: Chunk
    ) -> tuple[TrainState, Metrics]:
        def step(carry: tuple[TrainState, Metrics], number: Any) -> tuple[Any, None]:
            state, totals = carry
            state, metrics = train_step(state, cut(read_batch(arrays, chunk, number)))
            return (state, totals + metrics), None

        steps = len(chunk["mask"])
        if steps == 1:
            # No loop of one: XLA runs plain convolutions slowly in loops on a CPU (jax#12868).
            return step((state, totals), 0)[0]
        # A static length: with a dynamic one, a GPU waits for the host at every step.
        return lax.scan(step, (state, totals), np.arange(steps))[0]

    def evaluate(state: TrainState, totals: Metrics, chunk: Chunk) -> tuple[Metrics, jax.Array]:
        metrics, logits = eval_step(state, cut(read_batch({}, chunk, 0)))
        if layout.axis_name is not None:
            metrics = lax.psum(metrics, layout.axis_name)
        return totals + metrics, logits

    def cut(batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return lax.with_sharding_constraint(batch, layout.rows) if layout.is_cut else batch

    if layout.mapped:
        return _mapped(train, evaluate, layout)
    return Programs(
        train=jax.jit(train, donate_argnums=0, out_shardings=layout.replicated),
        evaluate=jax.jit(evaluate, out_shardings=layout.replicated),
        place=layout.put,
    )


def _mapped(train: Callable, evaluate: Callable, layout: Layout) -> Programs:
    """Returns the programs under `pmap`: each device runs them on its share of a chunk.

    The state has no device axis of its own: it is given to, and taken from, all devices whole.
    """
    pmap = functools.partial(
        jax.pmap, axis_name=layout.axis_name, devices=list(layout.mesh.devices.flat)
    )
    whole, rows = None, 0
    train = pmap(train, in_axes=(whole, whole, whole, rows), out_axes=whole, donate_argnums=0)
    evaluate = pmap(evaluate, in_axes=(whole, whole, rows), out_axes=(whole, rows))

    def split(chunk: Chunk) -> dict[str, Any]:
        on_host = {key: array for key, array in chunk.items() if isinstance(array, np.ndarray)}
        return {**chunk, **layout.split(on_host)}

    def scored(state: TrainState, totals: Metrics, chunk: Chunk) -> tuple[Metrics, jax.Array]:
        totals, logits = evaluate(state, totals, split(chunk))
        return totals, logits.reshape(-1, logits.shape[-1])

    return Programs(
        train=lambda state, totals, arrays, chunk: train(state, totals, arrays, split(chunk)),
        evaluate=scored,
        place=layout.put,
    )


class Underway:
    """Keeps the host close to the devices: one call of a program ahead, or half a second.

    JAX returns from a call before it is computed, and on a CPU lets some thirty of them wait: for
    half a minute of an AlexNet's steps progress would stand still and a signal would not be heard.
    One call must wait while another is computed, so that the devices never do. On an accelerator,
    whose steps take a millisecond, as many may wait as are computed in half a second.
    """

    def __init__(self, platform: str) -> None:
        """Starts with nothing under way on devices of `platform`, "cpu" or another."""
        self._seconds = 0.0 if platform == "cpu" else _SECONDS_AHEAD
        self._called: deque[Any] = deque()
        self._done = 0
        self._first_done = 0.0

    def add(self, result: jax.Array) -> None:
        """Takes an array that a call has returned, and waits until few enough are under way.

        Args:
            result: its memory must be taken by no later call.
        """
        self._called.append(result)
        while self._called and (len(self._called) > self._most() or self._called[0].is_ready()):
            jax.block_until_ready(self._called.popleft())
            if self._done == 0:  # the time before it compiled
                self._first_done = time.perf_counter()
            self._done += 1

    def _most(self) -> int:
        since_first = self._done - 1
        if since_first < 1:
            return _CALLS_AHEAD
        each = (time.perf_counter() - self._first_done) / since_first
        return max(_CALLS_AHEAD, int(self._seconds / max(each, 1e-6)))


def evaluate(
    programs: Programs,
    state: TrainState,
    feed: Feed,
    after_batch: Callable[[], None] = lambda: None,
) -> tuple[Metrics, np.ndarray]:
    """Scores every example of a streamed feed, of one batch a chunk, once.

    Args:
        programs: compiled.
        state: that is scored.
        feed: feed of the split.
        after_batch: called after each batch; may raise to end it.

    Returns:
        The metrics, and the logits as float32 (examples, classes) in the order of the split.

    Raises:
        ValueError: the feed is resident, or has several batches a chunk.
    """
    if feed.resident or feed.batches != 1:
        raise ValueError("evaluation takes a streamed feed of one batch a chunk")
    totals, kept = programs.place(no_metrics()), []
    underway = Underway(jax.default_backend())
    with contextlib.closing(feed.eval_chunks()) as chunks:
        for chunk in chunks:
            totals, logits = programs.evaluate(state, totals, chunk)
            kept.append(logits)
            underway.add(totals.count)
            after_batch()
    return totals, np.concatenate(jax.device_get(kept))[: len(feed.split)]
