"""The whole state of a training run as one pytree of arrays."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

Params = dict[str, Any]
Variables = dict[str, Params]  # {"params": ..., "batch_stats": ...}


class TrainState(flax.struct.PyTreeNode):
    """Everything that a step reads and writes: only arrays, so it can be saved directly.

    Attributes:
        step: int32 scalar, number of steps taken.
        params: trainable parameters, float32.
        batch_stats: running means and variances of batch normalization; {} without it.
        opt_state: the optimizer's own state.
        key: typed PRNG key of the run. It never changes: each step folds its number into it.
    """

    step: jax.Array
    params: Params
    batch_stats: Params
    opt_state: optax.OptState
    key: jax.Array

    @property
    def scored(self) -> Variables:
        """The variables that are scored, kept as the best, loaded and exported."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    def scoring(self, variables: Variables) -> TrainState:
        """Returns the state with these variables as `scored`."""
        return self.replace(**variables)


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


def draw_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    key: jax.Array,
) -> TrainState:
    """Returns an initial state of `model` for images (H, W, C); a pure function of `key`.

    The value of a parameter depends only on the key, its path and its shape: two models start
    with the same values wherever both have a layer of the same path and shape.
    """
    init_key, step_key = jax.random.split(key)
    images = jnp.zeros((1, *image_shape))
    variables = model.init(init_key, images, train=False)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
        key=step_key,
    )


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    seed: int,
) -> TrainState:
    """Returns the initial state of a seed, see `draw_state`; compiles once for all seeds."""
    return _draw_state(model, optimizer, image_shape, jax.random.key(seed))


_draw_state = jax.jit(draw_state, static_argnums=(0, 1, 2))
