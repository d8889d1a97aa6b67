"""Optimizers, learning-rate schedules and averages of the parameters, built on Optax."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import optax.contrib
from ml_collections import ConfigDict

from flaxlab.models.batch_statistics import Moments, apply_by_batch
from flaxlab.training.state import Params, TrainState, Variables
from flaxlab.training.step import Batch


def make_schedule(config: ConfigDict, steps_per_epoch: int, epochs: int) -> optax.Schedule:
    """Returns the learning rate as a function of the number of steps taken.

    That of the schedule "plateau" is constant here: what it becomes depends on the losses, and is
    a part of the optimizer, see `make_optimizer`.

    Args:
        config: `config.optimizer`.
        steps_per_epoch: optimizer steps in one epoch.
        epochs: length of the run; the schedules "cosine" and "one_cycle" depend on it.
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    rate, steps = config.learning_rate, epochs * steps_per_epoch
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(rate, max(steps - warmup, 1))
    elif config.schedule == "one_cycle":
        after = optax.cosine_onecycle_schedule(max(steps - warmup, 2), rate)
    elif config.schedule == "step":
        every = max(round(config.step_epochs * steps_per_epoch), 1)
        after = optax.exponential_decay(rate, every, config.step_factor, staircase=True)
    else:
        after = optax.constant_schedule(rate)
    if warmup == 0:
        return after
    # The ramp does not start at 0, which would waste the first step.
    ramp = optax.linear_schedule(rate / (warmup + 1), rate, warmup)
    return optax.join_schedules([ramp, after], [warmup])


def make_optimizer(
    config: ConfigDict, schedule: optax.Schedule, steps_per_epoch: int = 1
) -> optax.GradientTransformation:
    """Returns the optimizer `config.name` of `config.optimizer`, with this schedule.

    Args:
        config: `config.optimizer`.
        schedule: see `make_schedule`.
        steps_per_epoch: number of steps whose mean loss is one value for the schedule "plateau":
            cross entropy with the labels, also where soft targets are trained, plus the penalty.
            Steps that were skipped do not count. From the last of these steps on, the rate is
            multiplied by `step_factor` if `plateau_patience` values in a row were not 0.01% below
            the lowest before them (Optax's tolerance; that of Keras's `ReduceLROnPlateau` is
            absolute).
    """
    optimizer = _make_optimizer(config, schedule)
    if config.clip_norm:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
    if config.schedule == "plateau":
        reduced = optax.contrib.reduce_on_plateau(
            config.step_factor, config.plateau_patience, accumulation_size=steps_per_epoch
        )
        optimizer = optax.chain(optimizer, reduced)
    return optimizer


def last_rate(schedule: optax.Schedule, state: TrainState) -> float:
    """Returns the learning rate of the last step that was taken; waits for the device."""
    rate, scale = float(schedule(int(state.step) - 1)), plateau_scale(state)
    return rate if scale is None else rate * float(scale)


def plateau_scale(state: TrainState) -> jax.Array | None:
    """Returns what the schedule "plateau" multiplied the last rate by; None without it."""
    plateau = optax.tree.get(state.opt_state, "ReduceLROnPlateauState")
    return None if plateau is None else plateau.scale


def _make_optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    decay = config.weight_decay
    match config.name:
        case "sgd":
            return optax.sgd(schedule, config.momentum or None, config.nesterov)
        case "rmsprop":
            return optax.rmsprop(schedule, config.rms_decay, config.epsilon)
        case "lion":
            return optax.lion(schedule, config.b1, config.b2, weight_decay=decay)
        case "schedule_free_sgd":
            return optax.contrib.schedule_free_sgd(schedule, b1=config.b1, weight_decay=decay)
        case "schedule_free_adamw":
            return optax.contrib.schedule_free_adamw(
                schedule, b1=config.b1, b2=config.b2, eps=config.epsilon, weight_decay=decay
            )
        case "muon":
            return optax.contrib.muon(
                schedule,
                beta=config.momentum,
                weight_decay=decay,
                nesterov=config.nesterov,
                adam_b1=config.b1,
                adam_b2=config.b2,
                adam_weight_decay=decay,
                muon_weight_dimension_numbers=_muon_matrices,
            )
    scale = scale_by_keras_adam if config.adam_form == "keras" else optax.scale_by_adam
    parts = [scale(config.b1, config.b2, config.epsilon)]
    if config.name == "adamw":
        parts.append(optax.add_decayed_weights(decay))
    return optax.chain(*parts, optax.scale_by_learning_rate(schedule))


def _muon_matrices(params: optax.Params) -> Any:
    """Says how Muon sees each parameter as a matrix; all others are left to Adam.

    Kernels are (inputs, outputs); those of convolutions, (height, width, channels, filters), have
    one row for each value of a patch (Jordan et al., 2024). The output layer is Adam's, as in their
    code.
    """

    def matrix(path: Any, leaf: jax.Array) -> Any:
        is_kernel = jax.tree_util.keystr(path[-1:], simple=True) == "kernel"
        is_output = jax.tree_util.keystr(path[:1], simple=True) == "output"
        if not is_kernel or is_output or leaf.ndim not in (2, 4):
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(matrix, params)


def scale_by_keras_adam(b1: float, b2: float, epsilon: float) -> optax.GradientTransformation:
    """Returns Adam as Keras computes it: epsilon is added before the bias is corrected.

    With m and v, the moving averages of the gradients and of their squares, the update of step t
    is sqrt(1 - b2**t) / (1 - b1**t) * m / (sqrt(v) + epsilon). Kingma and Ba (2015) give this
    form at the end of their section 2. Their Algorithm 1, which Optax and PyTorch follow, adds
    epsilon to the corrected sqrt(v / (1 - b2**t)): with b2 = 0.999 Keras's epsilon is 32 times as
    large in the first step, 3.2 times in step 100.

    The state is that of `optax.scale_by_adam`.
    """

    def update(
        updates: optax.Updates, state: optax.ScaleByAdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.ScaleByAdamState]:
        corrected = epsilon / jnp.sqrt(1 - b2 ** (state.count + 1))
        return optax.scale_by_adam(b1, b2, corrected).update(updates, state, params)

    return optax.GradientTransformation(optax.scale_by_adam(b1, b2).init, update)


class AveragedState(TrainState):
    """A state with an average of its parameters, which is scored in their place.

    Training goes on from the parameters themselves. Their average never went through a batch, so
    the running statistics of batch normalization are not its own: those are estimated again at the
    end of each epoch, see `flaxlab.models.batch_statistics`.

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
MomentsStep = Callable[[TrainState, Batch], tuple[Moments, jax.Array]]


def averaged(state: TrainState) -> AveragedState:
    """Returns the state with an average that begins with its parameters and statistics."""
    # Copies, since a program cannot reuse the memory of one array for two results.
    average, stats = jax.tree.map(jnp.copy, (state.params, state.batch_stats))
    return AveragedState(**vars(state), average=average, average_stats=stats)


def restarted(state: TrainState, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state with an optimizer, and an average if any, that begin with its parameters.

    Schedule-free optimizers keep a copy of the parameters, so that others do not fit their state.
    """
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    state = state.replace(opt_state=optimizer.init(state.params))
    return state.scoring(jax.tree.map(jnp.copy, variables))


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
    # Mixed arithmetic may have widened the dtypes.
    return state.replace(average=optax.tree.cast_like(average, state.average))


def schedule_free_average(state: AveragedState) -> AveragedState:
    """Returns the state with the average that a schedule-free optimizer keeps: x in its paper."""
    of_optimizer = optax.tree.get(state.opt_state, "ScheduleFreeState")
    average = optax.contrib.schedule_free_eval_params(of_optimizer, state.params)
    return state.replace(average=optax.tree.cast_like(average, state.average))


def make_moments_step(
    model: nn.Module, preprocess: Callable[[jax.Array], jax.Array]
) -> MomentsStep:
    """Returns the pure function (state, batch) -> (moments, logits (N, classes)).

    The model has batch normalization, and the moments are those of its inputs under the scored
    parameters. Padding examples count as others do.
    """

    def moments_step(state: TrainState, batch: Batch) -> tuple[Moments, jax.Array]:
        logits, moments = apply_by_batch(model, state.scored, preprocess(batch["image"]))
        return moments, logits

    return moments_step
