"""Sharpness-aware steps against the two gradients written out."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxlab import models
from flaxlab.batches.augment import scale_pixels
from flaxlab.batches.order import train_batches
from flaxlab.batches.pmap import shard_batches
from flaxlab.training.experiment import assemble
from flaxlab.training.penalty import penalty
from flaxlab.training.state import create_state
from flaxlab.training.step import make_train_step
from tests.helpers.comparing import assert_close
from tests.helpers.runs import small_config, small_dataset

RADIUS, RATE = 0.5, 0.1


def step_and_state(radius, axis_name=None):
    config = small_config(**{"model.block_dropout": (), "model.head_dropout": ()})
    model = models.build(config.model, 3, axis_name)
    scale = functools.partial(scale_pixels, scaling="unit")
    optimizer = optax.sgd(RATE)
    step = make_train_step(
        model,
        optimizer,
        scale,
        functools.partial(penalty, l1=0.0, l2=0.01),
        axis_name,
        sam_radius=radius,
    )
    return model, step, create_state(model, optimizer, (8, 8, 1), seed=0)


def batch():
    return next(train_batches(small_dataset().train, 8, 0, 1))


def test_a_step_goes_down_the_gradient_from_uphill():
    model, step, state = step_and_state(RADIUS)
    given = batch()

    def loss(params):
        logits, updates = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            given["image"] / 255.0,
            train=True,
            mutable=["batch_stats"],
        )
        chosen = jax.nn.log_softmax(logits)[jnp.arange(8), given["label"]]
        return -chosen.mean() + penalty(params, 0.0, 0.01), updates["batch_stats"]

    gradients, batch_stats = jax.grad(loss, has_aux=True)(state.params)
    norm = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(gradients)))
    uphill = jax.tree.map(lambda p, g: p + RADIUS * g / norm, state.params, gradients)
    there, _ = jax.grad(loss, has_aux=True)(uphill)
    expected = jax.tree.map(lambda p, g: p - RATE * g, state.params, there)
    following, metrics = jax.jit(step)(state, given)
    assert_close(following.params, expected, atol=1e-5)
    # Metrics and running statistics are those of the parameters themselves.
    assert_close(following.batch_stats, batch_stats, atol=1e-5)
    _, plain, _ = step_and_state(0.0)
    unaware, expected_metrics = jax.jit(plain)(state, given)
    assert_close(metrics, expected_metrics, atol=1e-5)
    kernels = (each.params["output"]["kernel"] for each in (following, unaware))
    assert float(jnp.abs(jnp.subtract(*kernels)).max()) > 1e-3


def test_two_devices_go_uphill_together():
    _, step, state = step_and_state(RADIUS)
    _, mapped, _ = step_and_state(RADIUS, "batch")
    (halves,) = shard_batches([batch()], 2)
    spread = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    run = jax.pmap(mapped, axis_name="batch", devices=jax.local_devices()[:2])
    found, _ = run(spread, halves)
    expected, _ = jax.jit(step)(state, batch())
    assert_close(jax.tree.map(lambda leaf: leaf[1], found), expected, atol=1e-5)


def test_the_config_s_radius_is_the_step_s():
    jaxprs = set()
    for radius in (0.0, 0.05, 0.1):
        experiment = assemble(small_config(**{"optimizer.sam_radius": radius}), small_dataset())
        jaxprs.add(str(jax.make_jaxpr(experiment.train_step)(experiment.create_state(), batch())))
    assert len(jaxprs) == 3


class Still(nn.Module):
    """A network whose logits do not depend on its parameters."""

    @nn.compact
    def __call__(self, images, *, train):
        bias = self.param("bias", nn.initializers.ones, (3,))
        return jnp.zeros((len(images), 3)) + 0 * bias


def test_where_all_gradients_are_zero_nothing_moves():
    model, optimizer = Still(), optax.sgd(RATE)
    step = make_train_step(model, optimizer, jnp.float32, lambda params: 0.0, sam_radius=RADIUS)
    following, metrics = jax.jit(step)(create_state(model, optimizer, (8, 8, 1), 0), batch())
    np.testing.assert_array_equal(following.params["bias"], np.ones(3))
    assert float(metrics.loss) == pytest.approx(8 * np.log(3))
