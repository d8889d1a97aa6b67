"""The optimizers and schedules, step by step against Keras's own."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

from flaxlab.config import default_config
from flaxlab.training.optimizer import make_optimizer, make_schedule

STEPS = 100
RATE = 1e-2


def gradients() -> list[np.ndarray]:
    """Gradients of very unlike sizes, some of them near epsilon, where its place shows."""
    rng = np.random.default_rng(0)
    sizes = np.geomspace(1e-8, 10, 40)
    return [rng.normal(0, 1, 40).astype(np.float32) * sizes for _ in range(STEPS)]


def path_of(optimizer: optax.GradientTransformation) -> np.ndarray:
    """The parameter after each step, (STEPS, 40), from 1."""
    params = jnp.ones(40)
    state, path = optimizer.init(params), []
    update = jax.jit(optimizer.update)
    for gradient in gradients():
        updates, state = update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return np.array(path)


def keras_path(optimizer: keras.optimizers.Optimizer) -> np.ndarray:
    variable = keras.Variable(np.ones(40, np.float32))
    path = []
    for gradient in gradients():
        optimizer.apply([keras.ops.convert_to_tensor(gradient.astype(np.float32))], [variable])
        path.append(np.array(variable.value))
    return np.array(path)


def ours(rate=None, **fields) -> optax.GradientTransformation:
    config = default_config().optimizer
    config.update(fields)
    return make_optimizer(config, rate or optax.constant_schedule(RATE))


@pytest.mark.parametrize(
    ("fields", "theirs"),
    [
        ({"name": "adam"}, lambda: keras.optimizers.Adam(RATE)),
        (
            {"name": "adam", "b1": 0.8, "b2": 0.99, "epsilon": 1e-3},
            lambda: keras.optimizers.Adam(RATE, beta_1=0.8, beta_2=0.99, epsilon=1e-3),
        ),
        (
            {"name": "adamw", "weight_decay": 0.1},
            lambda: keras.optimizers.AdamW(RATE, weight_decay=0.1),
        ),
        ({"name": "sgd", "momentum": 0.0}, lambda: keras.optimizers.SGD(RATE)),
        ({"name": "sgd", "momentum": 0.9}, lambda: keras.optimizers.SGD(RATE, momentum=0.9)),
        (
            {"name": "sgd", "momentum": 0.9, "nesterov": True},
            lambda: keras.optimizers.SGD(RATE, momentum=0.9, nesterov=True),
        ),
    ],
)
def test_a_hundred_steps_are_keras_s(fields, theirs):
    np.testing.assert_allclose(path_of(ours(**fields)), keras_path(theirs()), rtol=0, atol=2e-5)


def test_the_place_of_epsilon_is_what_the_form_says():
    """By hand, first step: m = (1 - b1) g, v = (1 - b2) g**2, so Keras's is 32 times as large."""
    gradient, epsilon = 1e-6, 1e-7
    keras_step = gradient / (gradient + epsilon / np.sqrt(1 - 0.999))
    paper_step = gradient / (gradient + epsilon)
    for form, share in (("keras", keras_step), ("paper", paper_step)):
        optimizer = ours(name="adam", adam_form=form)
        updates, _ = optimizer.update(jnp.full(1, gradient), optimizer.init(jnp.ones(1)))
        assert updates[0] == pytest.approx(-RATE * share, rel=1e-4)
    assert keras_step < 0.25 < 0.9 < paper_step


def test_the_paper_s_form_is_optax_s():
    expected = path_of(optax.adam(RATE, eps=1e-7))
    np.testing.assert_array_equal(path_of(ours(name="adam", adam_form="paper")), expected)


@pytest.mark.parametrize(
    ("fields", "theirs"),
    [
        (
            {"schedule": "cosine"},
            lambda steps: keras.optimizers.schedules.CosineDecay(RATE, 5 * steps),
        ),
        (
            {"schedule": "step", "step_epochs": 2.0, "step_factor": 0.5},
            lambda steps: keras.optimizers.schedules.ExponentialDecay(
                RATE, 2 * steps, 0.5, staircase=True
            ),
        ),
    ],
)
def test_schedules_are_keras_s(fields, theirs):
    config = default_config().optimizer
    config.update({"learning_rate": RATE, **fields})
    steps = 7
    schedule = make_schedule(config, steps, 5)
    expected = [float(theirs(steps)(step)) for step in range(5 * steps + 3)]
    found = [float(schedule(step)) for step in range(5 * steps + 3)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_momentum_differs_from_keras_s_only_where_the_learning_rate_changes():
    """Keras keeps the rate of each step in the velocity; Optax applies today's to all of it."""
    schedule = optax.piecewise_constant_schedule(RATE, {50: 0.1})
    theirs = keras.optimizers.schedules.PiecewiseConstantDecay([49], [RATE, 0.1 * RATE])
    found = path_of(ours(schedule, name="sgd", momentum=0.9))
    expected = keras_path(keras.optimizers.SGD(theirs, momentum=0.9))
    np.testing.assert_allclose(found[:50], expected[:50], rtol=0, atol=2e-5)
    assert np.abs(found[50] - expected[50]).max() > 0.01
