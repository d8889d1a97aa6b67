"""Optimizers and learning-rate schedules from their configs, all by Optax."""

from __future__ import annotations

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
    # Step 0 is part of the ramp: a learning rate of 0 would waste it.
    ramp = optax.linear_schedule(rate / (warmup + 1), rate, warmup)
    return optax.join_schedules([ramp, after], [warmup])


def make_optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimizer `config.name` of `config.optimizer`, with this schedule."""
    if config.name == "sgd":
        return optax.sgd(schedule, config.momentum or None, config.nesterov)
    moments = {"b1": config.b1, "b2": config.b2, "eps": config.epsilon}
    if config.name == "adamw":
        return optax.adamw(schedule, weight_decay=config.weight_decay, **moments)
    return optax.adam(schedule, **moments)
