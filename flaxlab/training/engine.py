"""How the pure steps are run: compiled once, with the old state's memory reused for the new one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from flaxlab.training.metrics import Metrics, no_metrics
from flaxlab.training.state import TrainState
from flaxlab.training.steps import Batch, EvalStep, TrainStep


class Programs(NamedTuple):
    """The compiled programs of a run.

    Attributes:
        train: (state, totals, batch) -> (next state, totals + metrics of this batch). It takes
            the memory of `state` and `totals`: neither may be used afterwards.
        evaluate: (state, batch) -> (metrics, logits).
        place: puts a tree where the programs expect it. Arrays that come from elsewhere (drawn,
            restored) would make `jit` compile again for their placement.
    """

    train: Callable[[TrainState, Metrics, Batch], tuple[TrainState, Metrics]]
    evaluate: EvalStep
    place: Callable[[Any], Any]


def compile_programs(train_step: TrainStep, eval_step: EvalStep) -> Programs:
    """Returns the steps under `jit`; each compiles when it is first called."""

    def train(state: TrainState, totals: Metrics, batch: Batch) -> tuple[TrainState, Metrics]:
        state, metrics = train_step(state, batch)
        return state, totals + metrics

    device = jax.devices()[0]
    return Programs(
        train=jax.jit(train, donate_argnums=(0, 1)),
        evaluate=jax.jit(eval_step),
        place=lambda tree: jax.device_put(tree, device),
    )


def evaluate(
    programs: Programs, state: TrainState, batches: Iterable[Batch]
) -> tuple[Metrics, np.ndarray]:
    """Scores every example once.

    Returns:
        The metrics, and the logits as float32 (examples, classes) in the order of the batches.
    """
    totals, kept = no_metrics(), []
    for batch in batches:
        metrics, logits = programs.evaluate(state, batch)
        totals += metrics
        kept.append((logits, batch["mask"]))
    return totals, np.concatenate([np.asarray(logits)[mask] for logits, mask in kept])
