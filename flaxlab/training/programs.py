"""Makes programs of the pure steps, in which the new state reuses the memory of the old one.

Each is compiled once, when it is first called.

On several devices the same programs run under `jit` with sharded batches: XLA splits the work and
sums over the devices, the statistics of batch normalization included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax import lax

from flaxlab.batches.devices import Devices
from flaxlab.batches.feed import Batches, take_batch
from flaxlab.batches.pmap import map_program
from flaxlab.models.batch_statistics import Moments
from flaxlab.training.experiment import Experiment
from flaxlab.training.metrics import Metrics
from flaxlab.training.state import TrainState
from flaxlab.training.step import Batch, TrainStep

TrainProgram = Callable[[TrainState, Metrics, Batches], tuple[TrainState, Metrics]]
EvalProgram = Callable[[TrainState, Metrics, Batches], tuple[Metrics, jax.Array]]
MomentsProgram = Callable[[TrainState, Moments, Batches], tuple[Moments, jax.Array]]
Totals = TypeVar("Totals", Metrics, Moments)


class Programs(NamedTuple):
    """The programs of a run.

    All take one or several batches; another number of them, as at the end of an epoch, is compiled
    separately. `train` reuses the memory of the state, which must not be read afterwards.
    `evaluate` returns logits (batches, examples, classes), or (examples, classes) of one batch;
    so does `moments`, which only a run that scores averages of its parameters needs.
    """

    train: TrainProgram
    evaluate: EvalProgram
    moments: MomentsProgram | None = None


def compile_programs(experiment: Experiment, devices: Devices | None = None) -> Programs:
    """Returns the programs of an experiment, for its devices or others with the same axis."""
    devices, moments = devices or experiment.devices, experiment.moments_step
    return Programs(
        compile_training(experiment.train_step, devices),
        compile_evaluation(experiment.eval_step, devices),
        moments and compile_evaluation(moments, devices),
    )


def compile_training(train_step: TrainStep, devices: Devices) -> TrainProgram:
    """Returns the program `Programs.train`."""

    def train(state: TrainState, totals: Metrics, batches: Batches) -> tuple[TrainState, Metrics]:
        def step(carry: tuple[TrainState, Metrics], number: Any) -> tuple[Any, None]:
            state, totals = carry
            state, metrics = train_step(state, take_batch(batches, number, devices))
            return (state, totals + metrics), None

        steps = len(batches["mask"])
        if steps == 1:
            # No loop of one: XLA runs plain convolutions slowly in loops on a CPU (jax#12868).
            return step((state, totals), 0)[0]
        # The length is static: with a dynamic one, a GPU waits for the host at every step.
        return lax.scan(step, (state, totals), np.arange(steps))[0]

    return _compiled(train, devices, out_axes=None, donate_argnums=0)


def compile_evaluation(
    eval_step: Callable[[TrainState, Batch], tuple[Totals, jax.Array]], devices: Devices
) -> Callable[[TrainState, Totals, Batches], tuple[Totals, jax.Array]]:
    """Returns the program `Programs.evaluate`, or `Programs.moments`."""

    def evaluate(state: TrainState, totals: Totals, batches: Batches) -> tuple[Totals, jax.Array]:
        def step(totals: Totals, number: Any) -> tuple[Totals, jax.Array]:
            metrics, logits = eval_step(state, take_batch(batches, number, devices))
            if devices.axis_name is not None:
                metrics = lax.psum(metrics, devices.axis_name)
            return totals + metrics, logits

        steps = len(batches["mask"])
        return step(totals, 0) if steps == 1 else lax.scan(step, totals, np.arange(steps))

    return _compiled(evaluate, devices, out_axes=(None, 0))


def _compiled(program: Callable, devices: Devices, out_axes: Any, **options: Any) -> Callable:
    if devices.axis_name is not None:
        each = list(devices.mesh.devices.flat)
        return map_program(program, out_axes, devices.axis_name, each, **options)
    return jax.jit(program, out_shardings=devices.replicated, **options)
