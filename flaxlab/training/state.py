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
