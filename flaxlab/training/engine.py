"""How the pure steps are run: compiled once, with the old state's memory reused for the new one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax

from flaxlab.data.feed import Chunk, Feed, read_batch
from flaxlab.training.metrics import Metrics, no_metrics
from flaxlab.training.state import TrainState
from flaxlab.training.steps import EvalStep, TrainStep

Arrays = Mapping[str, jax.Array]


class Programs(NamedTuple):
    """The compiled programs of a run.

    Attributes:
        train: (state, totals, arrays, chunk) -> (state after the chunk's steps, totals + their
            metrics). It takes the memory of `state` and `totals`: neither may be used afterwards.
            A shorter last chunk of an epoch has a program of its own.
        evaluate: (state, totals, chunk) -> (totals + metrics, logits of the chunk's only batch),
            for streamed chunks. It takes the memory of `totals`.
        place: puts a tree where the programs expect it. Arrays that come from elsewhere (drawn,
            restored) would make `jit` compile again for their placement.
    """

    train: Callable[[TrainState, Metrics, Arrays, Chunk], tuple[TrainState, Metrics]]
    evaluate: Callable[[TrainState, Metrics, Chunk], tuple[Metrics, jax.Array]]
    place: Callable[[Any], Any]


def compile_programs(train_step: TrainStep, eval_step: EvalStep, device: jax.Device) -> Programs:
    """Returns the steps under `jit` on `device`; each compiles when it is first called."""

    def train(
        state: TrainState, totals: Metrics, arrays: Arrays, chunk: Chunk
    ) -> tuple[TrainState, Metrics]:
        def step(carry: tuple[TrainState, Metrics], number: Any) -> tuple[Any, None]:
            state, totals = carry
            state, metrics = train_step(state, read_batch(arrays, chunk, number))
            return (state, totals + metrics), None

        steps = len(chunk["mask"])
        if steps == 1:
            # No loop of one: XLA runs plain convolutions slowly in loops on a CPU (jax#12868).
            return step((state, totals), 0)[0]
        # Of a length that is known when it is compiled: else a GPU's host would be asked after
        # each step whether there is another.
        return lax.scan(step, (state, totals), np.arange(steps))[0]

    def evaluate(state: TrainState, totals: Metrics, chunk: Chunk) -> tuple[Metrics, jax.Array]:
        metrics, logits = eval_step(state, read_batch({}, chunk, 0))
        return totals + metrics, logits

    return Programs(
        train=jax.jit(train, donate_argnums=(0, 1)),
        evaluate=jax.jit(evaluate, donate_argnums=1),
        place=lambda tree: jax.device_put(tree, device),
    )


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
        feed: of the split.
        after_batch: called after each batch; may raise to end it.

    Returns:
        The metrics, and the logits as float32 (examples, classes) in the order of the split.

    Raises:
        ValueError: the feed is resident, or has several batches a chunk.
    """
    if feed.resident or feed.batches != 1:
        raise ValueError("evaluation takes a streamed feed of one batch a chunk")
    totals, kept = programs.place(no_metrics()), []
    with contextlib.closing(feed.eval_chunks()) as chunks:
        for chunk in chunks:
            totals, logits = programs.evaluate(state, totals, chunk)
            kept.append(logits)
            after_batch()
    return totals, np.concatenate(jax.device_get(kept))[: len(feed.split)]
