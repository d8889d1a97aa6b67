"""How the pure steps are run: compiled once, with the old state's memory reused for the new one."""

from __future__ import annotations

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
        def step(number: Any, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, totals = carry
            state, metrics = train_step(state, read_batch(arrays, chunk, number))
            return state, totals + metrics

        if len(chunk["mask"]) == 1:
            # No loop of one: XLA runs plain convolutions slowly in loops on a CPU (jax#12868).
            return step(0, (state, totals))
        # A loop whose length is an argument: the last, shorter chunk needs no program of its own.
        return lax.fori_loop(0, chunk["steps"], step, (state, totals))

    def evaluate(state: TrainState, totals: Metrics, chunk: Chunk) -> tuple[Metrics, jax.Array]:
        metrics, logits = eval_step(state, read_batch({}, chunk, 0))
        return totals + metrics, logits

    return Programs(
        train=jax.jit(train, donate_argnums=(0, 1)),
        evaluate=jax.jit(evaluate, donate_argnums=1),
        place=lambda tree: jax.device_put(tree, device),
    )


def evaluate(programs: Programs, state: TrainState, feed: Feed) -> tuple[Metrics, np.ndarray]:
    """Scores every example of a streamed feed, of one batch a chunk, once.

    Returns:
        The metrics, and the logits as float32 (examples, classes) in the order of the split.
    """
    totals, kept = programs.place(no_metrics()), []
    for chunk in feed.eval_chunks():
        totals, logits = programs.evaluate(state, totals, chunk)
        kept.append(logits)
    return totals, np.concatenate(jax.device_get(kept))[: len(feed.split)]
