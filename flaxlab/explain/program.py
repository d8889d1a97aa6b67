"""Takes the first steps of an experiment, and asks the compiler what they cost."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import jax

from flaxlab.batches.feed import Batches
from flaxlab.explain.changes import Change, list_changes, on_host
from flaxlab.training.experiment import Experiment
from flaxlab.training.metrics import Metrics, means, no_metrics
from flaxlab.training.programs import compile_training
from flaxlab.training.state import TrainState
from flaxlab.training.step import Batch, TrainStep


@dataclass(frozen=True)
class Cost:
    """The compiler's figures for one call of the training program.

    Attributes:
        flops: floating-point operations that XLA counts in the compiled program, with the body of
            a loop over several steps counted once; None if unknown.
        bytes_accessed: sum of the bytes that each operation reads and writes; None if unknown.
        arguments: bytes of the arguments.
        outputs: bytes of the results.
        aliased: bytes of the results that reuse the memory of donated arguments.
        temporary: bytes of intermediate values.
    """

    flops: float | None
    bytes_accessed: float | None
    arguments: int
    outputs: int
    aliased: int
    temporary: int

    @property
    def peak(self) -> int:
        """Most bytes in use: arguments, results and intermediate values, once each.

        XLA's own figure leaves out intermediate values on a CPU (jaxlib 0.10.2).
        """
        return self.arguments + self.outputs - self.aliased + self.temporary


@dataclass(frozen=True)
class FirstSteps:
    """What the first calls of the training program did and cost.

    Attributes:
        steps: number of steps in one call.
        loss: mean cross entropy of the first call's examples, in nats.
        accuracy: share of them that were classified correctly.
        penalty: penalty that was added to the loss.
        changes: what the first call changed in the state.
        examples: number of examples in each of the three calls, and how many of them count, since
            the last batch of an epoch is padded.
        seconds: time of each of the three calls.
        compiled: how many times the program was compiled for them.
        cost: cost of one call.
    """

    steps: int
    loss: float
    accuracy: float
    penalty: float
    changes: list[Change]
    examples: list[tuple[int, int]]
    seconds: list[float]
    compiled: int
    cost: Cost


def take_first_steps(experiment: Experiment) -> FirstSteps:
    """Makes the first, second and last call of the first epoch, as a run would.

    The last call gets the state after the second one, since only its shapes matter.
    """
    traced, train_step = _counting(experiment.train_step)
    train, put = compile_training(train_step, experiment.devices), experiment.devices.put
    feed = experiment.feeds().train
    state = put(experiment.create_state())
    before = on_host(state)
    first_changes: list[Change] = []
    examples, seconds, totals_of = [], [], []
    calls = _first_second_last(feed.train_batches(experiment.config.seed, 1))
    for batches in calls:
        totals = put(no_metrics())
        started = time.perf_counter()
        state, totals = jax.block_until_ready(train(state, totals, batches))
        seconds.append(time.perf_counter() - started)
        examples.append((batches["mask"].size, int(batches["mask"].sum())))
        totals_of.append(means(totals))
        first_changes = first_changes or list_changes(before, on_host(state))
    compiled = len(traced)
    # Compiled again, since `jit` does not give access to the program it compiled.
    lowered = cast(Any, train).lower(state, no_metrics(), calls[0])
    return FirstSteps(
        steps=len(calls[0]["mask"]),
        **totals_of[0],
        changes=first_changes,
        examples=examples,
        seconds=seconds,
        compiled=compiled,
        cost=_cost(lowered.compile()),
    )


def _counting(step: TrainStep) -> tuple[list[int], TrainStep]:
    """Returns a list, and the step, which appends to the list each time JAX traces it."""
    traced: list[int] = []

    def counted(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        traced.append(1)
        return step(state, batch)

    return traced, counted


def _first_second_last(calls: Iterator[Batches]) -> list[Batches]:
    """Returns the batches of an epoch's first two calls and its last one, or fewer."""
    return [*itertools.islice(calls, 2), *deque(calls, maxlen=1)]


def _cost(compiled: Any) -> Cost:
    counted: dict[str, float] = compiled.cost_analysis() or {}
    memory = compiled.memory_analysis()
    return Cost(
        flops=counted.get("flops"),
        bytes_accessed=counted.get("bytes accessed"),
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes,
        aliased=memory.alias_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
    )
