"""The steps: pure functions of (state, batch).

Nothing here knows how a step is run. The same function goes through `jit` (one device, or
several with sharded arrays), `lax.scan` (several steps per call), `vmap` (several seeds) and
`pmap` (with `axis_name`, which the model needs too: its batch statistics and dropout masks are
those of the whole batch).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from flaxlab.batches.augment import example_keys, over_flips
from flaxlab.kernels.finite import all_finite
from flaxlab.training.metrics import NEVER, Metrics, batch_metrics, no_metrics
from flaxlab.training.state import Params, TrainState

# "image": uint8 (N, H, W, C), "label": int32 (N,), "mask": bool (N,)
Batch = Mapping[str, Any]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
EvalStep = Callable[[TrainState, Batch], tuple[Metrics, jax.Array]]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    preprocess: Callable[[jax.Array], jax.Array],
    penalty: Callable[[Params], jax.Array],
    axis_name: str | None = None,
    skip_nonfinite: bool = False,
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    soften: Callable[..., tuple[jax.Array, jax.Array]] | None = None,
    sam_radius: float = 0.0,
    average: Callable[[Any], Any] | None = None,
) -> TrainStep:
    """Returns the pure function (state, batch) -> (next state, metrics of this batch).

    It minimizes the mean cross entropy over the examples that `mask` keeps, plus the penalty.
    Padding examples, which repeat a real one, affect the batch statistics, and with `soften` the
    image that is mixed with them.

    Args:
        model: maps (images, train) to logits.
        optimizer: turns gradients, and the loss if it asks for it, into updates.
        preprocess: maps uint8 images to floats, on the device.
        penalty: maps parameters to a scalar that is added to the loss.
        axis_name: the mapped axis under `pmap`; None otherwise.
        skip_nonfinite: whether a step whose loss or gradients hold NaN or infinity changes
            nothing but the step number. Unlike with `optax.apply_if_finite`, that includes the
            running statistics: they have seen what made the loss infinite.
        augment: maps (keys (N,), uint8 images) to augmented uint8 images; None: no augmentation.
        soften: maps (key, float images, labels) to the images to train on and the shares of the
            classes (N, classes) to learn, see `flaxlab.batches.targets`; None: the labels. The
            metrics are of the labels.
        sam_radius: sharpness-aware minimization (Foret et al., 2021): the gradients are those at
            the parameters that lie so far uphill, in the direction of the gradients here. Metrics
            and running statistics are those of here. 0: plain gradients.
        average: maps the next state to one with the next average of its parameters, see
            `flaxlab.training.optimizer`; None: nothing is averaged.
    """

    def over_devices(tree: Any) -> Any:
        return tree if axis_name is None else jax.lax.psum(tree, axis_name)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        step_key = jax.random.fold_in(state.key, state.step)
        images = batch["image"]
        if augment is not None:
            images = augment(example_keys(step_key, len(images), axis_name), images)
        devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
        count = over_devices(jnp.sum(batch["mask"], dtype=jnp.float32))

        def loss_fn(params: Params) -> tuple[jax.Array, tuple[Metrics, Params]]:
            inputs = preprocess(images)
            if soften is not None:
                inputs, targets = soften(step_key, inputs, batch["label"])
            logits, updates = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                inputs,
                train=True,
                rngs={"dropout": step_key},
                mutable=["batch_stats"],
            )
            metrics = batch_metrics(logits, batch["label"], batch["mask"])
            loss = metrics.loss
            if soften is not None:
                losses = optax.softmax_cross_entropy(logits, targets)
                loss = jnp.sum(jnp.where(batch["mask"], losses, 0.0))
            # Each device adds its share, so that the sum over devices is the loss.
            penalty_share = penalty(params) / devices
            metrics = metrics.replace(penalty=penalty_share)
            batch_stats = updates.get("batch_stats", state.batch_stats)
            return loss / count + penalty_share, (metrics, batch_stats)

        gradients_at = jax.grad(loss_fn, has_aux=True)
        grads, (metrics, batch_stats) = gradients_at(state.params)
        grads, metrics = over_devices((grads, metrics))
        if sam_radius:
            length = optax.tree.norm(grads) + 1e-12  # not 0 where all gradients are
            uphill = optax.tree.add_scale(state.params, sam_radius / length, grads)
            grads = over_devices(gradients_at(uphill)[0])
        loss = metrics.loss / count + metrics.penalty
        updates, opt_state = optax.with_extra_args_support(optimizer).update(
            grads, state.opt_state, state.params, value=loss
        )
        next_state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        if average is not None:
            next_state = average(next_state)
        metrics = metrics.replace(steps=jnp.ones((), jnp.int32))
        finite = all_finite((metrics.loss, metrics.penalty, grads))
        if skip_nonfinite:
            unchanged = state.replace(step=next_state.step)
            skipped = no_metrics().replace(skipped=jnp.ones((), jnp.int32))
            next_state, metrics = jax.tree.map(
                functools.partial(jnp.where, finite), (next_state, metrics), (unchanged, skipped)
            )
        return next_state, metrics.replace(nonfinite_step=jnp.where(finite, NEVER, state.step))

    return train_step


def make_eval_step(
    model: nn.Module, preprocess: Callable[[jax.Array], jax.Array], flips: bool = False
) -> EvalStep:
    """Returns the pure function (state, batch) -> (metrics, logits (N, classes)).

    It uses the running statistics and no dropout, and changes nothing. With `flips`, the logits are
    means over each image and its mirror image.
    """

    def eval_step(state: TrainState, batch: Batch) -> tuple[Metrics, jax.Array]:
        compute = over_flips(functools.partial(model.apply, state.scored, train=False), flips)
        logits = compute(preprocess(batch["image"]))
        return batch_metrics(logits, batch["label"], batch["mask"]), logits

    return eval_step
