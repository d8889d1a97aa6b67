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
        ({"name": "rmsprop"}, lambda: keras.optimizers.RMSprop(RATE)),
        (
            {"name": "rmsprop", "rms_decay": 0.7},
            lambda: keras.optimizers.RMSprop(RATE, rho=0.7),
        ),
        (
            {"name": "lion", "b2": 0.99, "weight_decay": 0.1},
            lambda: keras.optimizers.Lion(RATE, weight_decay=0.1),
        ),
        (
            {"name": "sgd", "momentum": 0.0, "clip_norm": 0.5},
            lambda: keras.optimizers.SGD(RATE, global_clipnorm=0.5),
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


def test_one_cycle_goes_up_and_down_once_along_half_cosines():
    """Smith and Topin (2018), with the shares of fastai and PyTorch: 30%, 1/25 and 1/10,000."""
    config = default_config().optimizer
    config.update({"learning_rate": RATE, "schedule": "one_cycle"})
    schedule = make_schedule(config, 20, 5)
    steps = np.arange(101)
    first, last = RATE / 25, RATE / 25 / 1e4

    def half_cosine(start, end, share):
        return end + (start - end) * (1 + np.cos(np.pi * share)) / 2

    up, down = half_cosine(first, RATE, steps / 30), half_cosine(RATE, last, (steps - 30) / 70)
    rates = [float(schedule(step)) for step in steps]
    np.testing.assert_allclose(rates, np.where(steps < 30, up, down), rtol=1e-4, atol=RATE * 1e-6)


def orthogonalized(matrix: np.ndarray) -> np.ndarray:
    """Five steps of Newton and Schulz with the coefficients of Jordan et al. (2024), by hand."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix) / np.linalg.norm(matrix)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (3, 2, 4, 6)])
def test_muon_orthogonalizes_kernels_as_matrices(shape):
    """The first step, whose momentum is the gradient: one row for each value of a patch."""
    gradient = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    params = {"hidden": {"kernel": jnp.zeros(shape)}}
    optimizer = ours(name="muon", weight_decay=0.0)
    state = optimizer.init(params)
    updates, _ = optimizer.update({"hidden": {"kernel": jnp.asarray(gradient)}}, state, params)
    rows, columns = np.prod(shape[:-1]), shape[-1]
    expected = orthogonalized(gradient.reshape(rows, columns)) * np.sqrt(max(1, columns / rows))
    np.testing.assert_allclose(
        np.reshape(updates["hidden"]["kernel"], (rows, columns)), -RATE * expected, atol=1e-5
    )


@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_keeps_a_momentum_and_decays(nesterov):
    """Momentum is the mean of the gradients, corrected for its start at 0, and so is Nesterov's."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(5, 4)).astype(np.float32)
    optimizer = ours(name="muon", momentum=0.7, nesterov=nesterov, weight_decay=0.1)
    params = {"hidden": {"kernel": jnp.asarray(kernel)}}
    state, mean = optimizer.init(params), np.zeros((5, 4))
    for step in range(1, 5):
        gradient = rng.normal(size=(5, 4)).astype(np.float32)
        updates, state = optimizer.update({"hidden": {"kernel": gradient}}, state, params)
        params = optax.apply_updates(params, updates)
        mean = 0.7 * mean + 0.3 * gradient
        direction = mean
        if nesterov:
            ahead, now = 1 - 0.7 ** (step + 1), 1 - 0.7**step
            direction = 0.7 * mean / ahead + 0.3 * gradient / now
        kernel = kernel - RATE * (orthogonalized(direction) + 0.1 * kernel)
        np.testing.assert_allclose(params["hidden"]["kernel"], kernel, atol=1e-5)


def test_muon_leaves_biases_and_the_output_layer_to_adam():
    shapes = {"hidden": {"bias": (4,), "scale": (4,)}, "output": {"kernel": (4, 3), "bias": (3,)}}
    is_shape = {"is_leaf": lambda x: isinstance(x, tuple)}
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda shape: jnp.ones(shape), shapes, **is_shape)
    gradients = jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32), shapes, **is_shape
    )
    found = {}
    for optimizer in (ours(name="muon", weight_decay=0.0), optax.adam(RATE)):
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        found[optimizer] = updates
    ours_, adams = found.values()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), ours_, adams)


def test_momentum_differs_from_keras_s_only_where_the_learning_rate_changes():
    """Keras keeps the rate of each step in the velocity; Optax applies today's to all of it."""
    schedule = optax.piecewise_constant_schedule(RATE, {50: 0.1})
    theirs = keras.optimizers.schedules.PiecewiseConstantDecay([49], [RATE, 0.1 * RATE])
    found = path_of(ours(schedule, name="sgd", momentum=0.9))
    expected = keras_path(keras.optimizers.SGD(theirs, momentum=0.9))
    np.testing.assert_allclose(found[:50], expected[:50], rtol=0, atol=2e-5)
    assert np.abs(found[50] - expected[50]).max() > 0.01
