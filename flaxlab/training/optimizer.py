"""Optimizers and learning-rate schedules from the config, all built on Optax."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def make_schedule(config: ConfigDict, steps_per_epoch: int, epochs: int) -> optax.Schedule:
    """Returns the learning rate as a function of the number of steps taken.

    Args:
        config: `config.optimizer`.
        steps_per_epoch: optimizer steps in one epoch.
        epochs: length of the run; only the "cosine" schedule depends on it.
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    rate = config.learning_rate
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(rate, max(epochs * steps_per_epoch - warmup, 1))
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


def make_optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimizer `config.name` of `config.optimizer`, with this schedule."""
    if config.name == "sgd":
        return optax.sgd(schedule, config.momentum or None, config.nesterov)
    scale = scale_by_keras_adam if config.adam_form == "keras" else optax.scale_by_adam
    parts = [scale(config.b1, config.b2, config.epsilon)]
    if config.name == "adamw":
        parts.append(optax.add_decayed_weights(config.weight_decay))
    return optax.chain(*parts, optax.scale_by_learning_rate(schedule))


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
