"""The schedule that follows the losses: against Keras, and what the history says of it."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

from flaxlab.config import default_config
from flaxlab.rates.growth import range_test
from flaxlab.training.optimizer import make_optimizer
from tests.helpers.comparing import assert_same_bits, without_times
from tests.helpers.runs import Listener, run_small, small_config, small_dataset

PLATEAU = {
    "optimizer.schedule": "plateau",
    "optimizer.plateau_patience": 1,
    "optimizer.step_factor": 0.5,
}


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_the_rate_falls_as_keras_s_does(patience):
    """Keras reduces it after an epoch, so that the next one shows it; here its last step does."""
    losses = np.round(np.random.default_rng(0).normal(1, 0.3, 30), 2) + np.linspace(1, 0, 30)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0))
    # Keras's tolerance is absolute, ours relative; losses of two digits tell neither.
    callback = keras.callbacks.ReduceLROnPlateau(
        "loss", factor=0.5, patience=patience, min_delta=1e-9
    )
    callback.set_model(model)
    callback.on_train_begin()
    config = default_config().optimizer
    config.update({"name": "sgd", "momentum": 0.0, "schedule": "plateau", "step_factor": 0.5})
    config.plateau_patience = patience
    optimizer = make_optimizer(config, optax.constant_schedule(1.0), steps_per_epoch=4)
    state, expected, found = optimizer.init(jnp.ones(())), [], []
    one = jnp.ones(())
    update = jax.jit(lambda state, value: optimizer.update(one, state, one, value=value))
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"loss": loss})
        expected.append(float(model.optimizer.learning_rate))
        for share in (0.5, 1.5, 0.9, 1.1):
            moved, state = update(state, share * loss)
        found.append(-float(moved))
    np.testing.assert_allclose(found, expected)
    assert len(set(expected)) > 3


def rates(history, rate):
    """The rate of the last step of each epoch, from its training losses, by hand."""
    lowest, found = float("inf"), []
    for row in history:
        if row.train_loss < (1 - 1e-4) * lowest:
            lowest = row.train_loss
        else:
            rate /= 2
        found.append(rate)
    return found


class StopAfterTwo(Listener):
    def epoch_done(self, row):
        if row.epoch == 2:
            raise KeyboardInterrupt


def test_the_history_has_the_rates_that_were_used_and_a_resumed_run_the_same(tmp_path):
    # Batches of one size; so small a rate that only dropout changes the loss.
    small = {**PLATEAU, "optimizer.learning_rate": 1e-6, "train.epochs": 5}
    data = small_dataset(train=24)
    undisturbed = run_small(tmp_path / "one", dataset=data, **small)
    expected = rates(undisturbed.history, 1e-6)
    assert [row.learning_rate for row in undisturbed.history] == pytest.approx(expected)
    assert len(set(expected)) > 1
    with pytest.raises(KeyboardInterrupt):
        run_small(tmp_path / "two", [StopAfterTwo()], dataset=data, **small)
    resumed = run_small(tmp_path / "two", dataset=data, **small)
    assert_same_bits(resumed.state, undisturbed.state)
    assert without_times(resumed.history) == without_times(undisturbed.history)


def test_a_range_test_is_not_reduced():
    """The rates of its steps are its own, whatever the losses do."""
    found = [
        range_test(small_config(**fields), small_dataset(), 1e-6, 1e-5, 9)
        for fields in (PLATEAU, {})
    ]
    np.testing.assert_array_equal(found[0].losses, found[1].losses)
