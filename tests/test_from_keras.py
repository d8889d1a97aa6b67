"""docs/from-keras.md: each number is the one that Keras, Flax, Optax and flaxlab have."""

import dataclasses
import inspect
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

from flaxlab import config as configs
from flaxlab import models
from flaxlab.config import default_config
from flaxlab.models.blocks import INITIALIZERS
from flaxlab.training import experiment, loop, state
from flaxlab.training import step as steps
from flaxlab.training.metrics import Row, stops_early
from flaxlab.training.optimizer import make_optimizer
from flaxlab.training.penalty import penalty
from tests.helpers.runs import ROOT

PAGE = (ROOT / "docs/from-keras.md").read_text()
CONFIG = default_config()


def default(function, name):
    value = inspect.signature(function).parameters[name].default
    return None if value is inspect.Parameter.empty else value


def flax_initializer(layer):
    """The name of the initializer whose values the layer draws."""
    key, shape = jax.random.key(0), (3, 3, 4, 8)
    drawn = layer.kernel_init(key, shape)
    known = ("lecun_normal", "glorot_uniform", "he_normal")
    return next(
        n for n in known if np.array_equal(getattr(nn.initializers, n)()(key, shape), drawn)
    )


def flaxlab_initializer():
    return flax_initializer(nn.Conv(8, (3, 3), kernel_init=INITIALIZERS["glorot_uniform"]))


def flax_pool_stride():
    return 7 - nn.max_pool(jnp.zeros((1, 8, 8, 1)), (2, 2)).shape[1] + 1


def keras_pool_stride():
    layer = keras.layers.MaxPooling2D(3)
    return "window" if layer.strides == layer.pool_size else layer.strides


def keras_batch_size():
    """What `fit` takes where nothing is said."""
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse")
    asked = keras.callbacks.Callback()
    model.fit(np.zeros((960, 1)), np.zeros(960), verbose=0, callbacks=[asked])
    return 960 / asked.params["steps"]


def watched(row):
    """Which column decides that an epoch is better."""
    better = {"val_loss": {"val_loss": 0.1}, "val_accuracy": {"val_accuracy": 0.9}}[row]
    first, second = (Row(n, 0.0, 0.0, 0.5, 0.5, 0.0) for n in (1, 2))
    return not stops_early([first, dataclasses.replace(second, **better)], 1, 0.0)


def first_step_of_keras(optimizer, gradient=1e-6):
    weight = keras.Variable(np.zeros(1, np.float32))
    optimizer.apply([keras.ops.full((1,), gradient)], [weight])
    return round(float(-weight.value[0] / optimizer.learning_rate), 2)


def first_step_of_optax(optimizer, rate, gradient=1e-6):
    updates, _ = optimizer.update(jnp.full(1, gradient), optimizer.init(jnp.zeros(1)))
    return round(float(-updates[0] / rate), 2)


# name: (Keras, Flax or Optax, flaxlab); None where there is no default.
REAL = {
    "batch normalization, momentum": lambda: (
        keras.layers.BatchNormalization().momentum,
        nn.BatchNorm(use_running_average=True).momentum,
        CONFIG.model.batch_norm_momentum,
    ),
    "batch normalization, epsilon": lambda: (
        keras.layers.BatchNormalization().epsilon,
        nn.BatchNorm(use_running_average=True).epsilon,
        CONFIG.model.norm_epsilon,
    ),
    "kernels of convolutions and dense layers": lambda: (
        re.sub(
            "(?<!^)(?=[A-Z])", "_", type(keras.layers.Dense(1).kernel_initializer).__name__
        ).lower(),
        flax_initializer(nn.Dense(8)),
        flaxlab_initializer(),
    ),
    "padding of convolutions": lambda: (
        keras.layers.Conv2D(1, 3).padding,
        nn.Conv(1, (3, 3)).padding.lower(),
        "by experiment",
    ),
    "stride of pooling": lambda: (keras_pool_stride(), flax_pool_stride(), "by experiment"),
    "Adam, learning rate": lambda: (
        float(keras.optimizers.Adam().learning_rate),
        default(optax.adam, "learning_rate"),
        CONFIG.optimizer.learning_rate,
    ),
    "Adam, epsilon": lambda: (
        keras.optimizers.Adam().epsilon,
        default(optax.adam, "eps"),
        CONFIG.optimizer.epsilon,
    ),
    "Adam, first step for a gradient of 1e-06, as a share of the learning rate": lambda: (
        first_step_of_keras(keras.optimizers.Adam()),
        first_step_of_optax(optax.adam(1.0), 1.0),
        first_step_of_optax(make_optimizer(CONFIG.optimizer, optax.constant_schedule(1.0)), 1.0),
    ),
    "AdamW, weight decay": lambda: (
        keras.optimizers.AdamW().weight_decay,
        default(optax.adamw, "weight_decay"),
        CONFIG.optimizer.weight_decay,
    ),
    "SGD, momentum": lambda: (
        keras.optimizers.SGD().momentum,
        default(optax.sgd, "momentum"),
        CONFIG.optimizer.momentum,
    ),
    "L2 factor": lambda: (default(keras.regularizers.L2, "l2"), None, CONFIG.loss.l2),
    "batch size": lambda: (
        keras_batch_size(),
        None,
        CONFIG.train.batch_size,
    ),
    "early stopping, patience": lambda: (
        keras.callbacks.EarlyStopping().patience,
        None,
        CONFIG.train.early_stopping_patience,
    ),
    "early stopping, watches": lambda: (
        keras.callbacks.EarlyStopping().monitor,
        None,
        next(row for row in ("val_loss", "val_accuracy") if watched(row)),
    ),
}


def rows(title):
    """The cells of the table below a heading, without its head."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_has_every_number():
    assert [cells[0] for cells in rows("Numbers")] == list(REAL)


@pytest.mark.parametrize("cells", rows("Numbers"), ids=lambda cells: cells[0])
def test_the_numbers_are_the_real_ones(cells):
    name, *shown = cells
    for text, value in zip(shown, REAL[name](), strict=True):
        if isinstance(value, int | float):
            assert float(text) == pytest.approx(value, rel=1e-6), name
        else:
            assert text == ("-" if value is None else value), name


def test_fields_of_the_config_exist():
    fields = {path for path, _ in configs.flatten(CONFIG)}
    named = set(re.findall(r"`config\.([\w.]+)", PAGE))
    assert len(named) > 12
    assert named - fields == set()


def test_the_words_of_keras_exist():
    owners = (
        keras,
        keras.Model,
        keras.Layer,
        keras.layers,
        keras.callbacks,
        keras.utils,
        keras.random,
        keras.models,
    )
    texts = {text for cells in rows("Words") for text in re.findall(r"`([^`]+)`", cells[0])}
    for text in texts - {"callbacks", "verbose", "model(x, training=True)"}:
        path = re.match(r"[\w.]+", text)[0].removeprefix("model.").split(".")
        if path[0] == "optimizer":
            assert hasattr(keras.optimizers.Adam(), path[1]), text
        elif text.startswith("validation_"):
            assert path[0] in inspect.signature(keras.Model.fit).parameters, text
        else:
            found = [owner for owner in owners if hasattr(owner, path[0])]
            assert found, text
            for name in path[1:]:
                assert hasattr(getattr(found[0], path[0]), name), text


def test_penalties_are_those_of_keras():
    kernel = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    params = {"head1": {"dense": {"kernel": jnp.asarray(kernel)}}}
    for ours, theirs in (
        (penalty(params, l1=0.0, l2=0.01), keras.regularizers.L2(0.01)),
        (penalty(params, l1=0.01, l2=0.0), keras.regularizers.L1(0.01)),
    ):
        assert float(ours) == pytest.approx(float(theirs(kernel)), rel=1e-6)


def test_a_patience_of_zero_stops_keras_and_not_us():
    history = [Row(n, 0.0, 0.0, 0.5, 0.5, 0.0) for n in (1, 2, 3)]
    assert not stops_early(history, 0, 0.0)
    stopping = keras.callbacks.EarlyStopping(patience=0, mode="min")
    stopping.set_model(keras.Sequential())
    stopping.on_train_begin()
    for row in history[:2]:
        stopping.on_epoch_end(row.epoch, dataclasses.asdict(row))
    assert stopping.model.stop_training


def test_the_words_of_flaxlab_exist():
    words = {text for cells in rows("Words") for text in re.findall(r"`(\w+)\(", cells[1])}
    owners = (experiment, loop, models, nn, state, steps)
    missing = {word for word in words if not any(hasattr(owner, word) for owner in owners)}
    assert missing == set()
    fields = re.findall(r"`state\.(\w+)`", PAGE)
    assert sorted(fields) == sorted(state.TrainState.__dataclass_fields__)
