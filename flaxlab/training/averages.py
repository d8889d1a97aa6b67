"""Averages of the parameters, which a run scores in place of those that it trains.

Training goes on from the parameters themselves. Their average never went through a batch, so that
the running statistics of batch normalization are not its own: those are estimated again at the end
of each epoch, see `flaxlab.training.batch_statistics`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from ml_collections import ConfigDict

from flaxlab.training.state import Params, TrainState, Variables


class AveragedState(TrainState):
    """A state with an average of its parameters, which is what one scores.

    Attributes:
        average: the average, of the same tree as the parameters.
        average_stats: batch statistics that fit it; within an epoch, those of the one before.
    """

    average: Params
    average_stats: Params

    @property
    def scored(self) -> Variables:
        """See `TrainState`."""
        return {"params": self.average, "batch_stats": self.average_stats}

    def scoring(self, variables: Variables) -> TrainState:
        """See `TrainState`."""
        return self.replace(average=variables["params"], average_stats=variables["batch_stats"])


# What a step does last: maps the next state to one with the next average.
Average = Callable[[AveragedState], AveragedState]


def make_average(config: ConfigDict) -> Average | None:
    """Returns the average that a whole config asks for; None for none."""
    if config.optimizer.name.startswith("schedule_free"):
        return schedule_free_average
    if config.train.ema_decay:
        return functools.partial(moving_average, decay=config.train.ema_decay)
    return None


def moving_average(state: AveragedState, decay: float) -> AveragedState:
    """Returns the state with its parameters added to their exponential moving average.

    It keeps the share `decay` of the average before, or (1 + n) / (10 + n) after n steps where that
    is less, as TensorFlow's `tf.train.ExponentialMovingAverage` does with a count of steps:
    otherwise the initial values would stay in the average for some 1 / (1 - decay) steps.
    """
    kept = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    average = optax.incremental_update(state.params, state.average, 1 - kept)
    return state.replace(average=_as(average, state.average))


def schedule_free_average(state: AveragedState) -> AveragedState:
    """Returns the state with the average that a schedule-free optimizer keeps: x in its paper."""
    of_optimizer = optax.tree.get(state.opt_state, "ScheduleFreeState")
    average = optax.contrib.schedule_free_eval_params(of_optimizer, state.params)
    return state.replace(average=_as(average, state.average))


def _as(tree: Params, like: Params) -> Params:
    """Returns a tree with the dtypes of another, which mixed arithmetic may have widened."""
    return jax.tree.map(lambda leaf, other: leaf.astype(other.dtype), tree, like)


def averaged(state: TrainState) -> AveragedState:
    """Returns the state with an average that begins with its parameters and statistics."""
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(TrainState)}
    # Copies, since a program cannot reuse the memory of one array for two results.
    average, stats = jax.tree.map(jnp.copy, (state.params, state.batch_stats))
    return AveragedState(**fields, average=average, average_stats=stats)


def restarted(state: TrainState, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state with an optimizer, and an average if any, that begin with its parameters.

    Schedule-free optimizers keep a copy of the parameters, so that others do not fit their state.
    """
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    state = state.replace(opt_state=optimizer.init(state.params))
    return state.scoring(jax.tree.map(jnp.copy, variables))
