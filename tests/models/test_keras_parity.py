"""The networks against the same networks in Keras, with the same weights."""

import jax
import jax.numpy as jnp
import keras
import ml_collections
import numpy as np
import optax
import pytest

from flaxlab import models
from flaxlab.config.read import load_experiment
from flaxlab.data.shape import image_shape
from flaxlab.training.penalty import penalty
from flaxlab.training.state import TrainState
from flaxlab.training.step import make_train_step
from tests.helpers.report_facts import DROPOUTS, PARAMETERS, keras_model
from tests.helpers.runs import EXPERIMENTS

# Keras's names of what a layer keeps, as Flax names them: (collection, leaf).
_LEAVES = {
    "kernel": ("params", "kernel"),
    "bias": ("params", "bias"),
    "gamma": ("params", "scale"),
    "beta": ("params", "bias"),
    "moving_mean": ("batch_stats", "mean"),
    "moving_variance": ("batch_stats", "var"),
}


def experiment_config(name: str) -> ml_collections.ConfigDict:
    return load_experiment(EXPERIMENTS / f"{name}.py")


def flax_variables(model: keras.Model, rows: list[models.LayerRow], values=None) -> dict:
    """Sorts Keras's weights (or other values in their order) into Flax's tree."""
    tree: dict = {"params": {}, "batch_stats": {}}
    paths = iter(row.path for row in rows if row.trainable)
    pairs = iter(zip(model.weights, model.weights if values is None else values, strict=True))
    for layer in model.layers:
        path = next(paths).split("/") if layer.weights else []
        for _ in layer.weights:
            weight, value = next(pairs)
            collection, leaf = _LEAVES[weight.name]
            branch = tree[collection]
            for part in path:
                branch = branch.setdefault(part, {})
            branch[leaf] = jnp.asarray(value)
    assert next(paths, None) is None, "Flax has more layers than Keras"
    return tree


def randomize(model: keras.Model, seed: int) -> None:
    """Gives every weight that starts at 0 or 1 a value that shows when it is misplaced."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name != "kernel":
            weight.assign(rng.normal(0, 0.1, weight.shape))


def assert_trees_close(ours, theirs, relative: float) -> None:
    """Each leaf within `relative` of Keras's, measured by the largest value of the leaf."""
    ours, theirs = (jax.tree_util.tree_leaves_with_path(tree) for tree in (ours, theirs))
    assert [path for path, _ in ours] == [path for path, _ in theirs]
    for (path, a), (_, b) in zip(ours, theirs, strict=True):
        error = np.max(np.abs(a - b)) / max(float(np.max(np.abs(b))), 1e-12)
        assert error < relative, f"{jax.tree_util.keystr(path)}: {error:.1e}"


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_dropouts(name):
    total, trainable, shape = PARAMETERS[name]
    config = experiment_config(name)
    assert image_shape(config.data) == shape
    rows = models.layer_table(models.build(config.model, 10), shape)
    assert sum(row.trainable for row in rows) == trainable
    assert sum(row.trainable + row.running for row in rows) == total
    rates = [rate for rate in (*config.model.block_dropout, *config.model.head_dropout) if rate]
    assert rates == DROPOUTS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_same_weights_give_the_same_logits(name):
    theirs = keras_model(name)
    randomize(theirs, seed=1)
    config = experiment_config(name)
    model = models.build(config.model, 10)
    shape = PARAMETERS[name][2]
    variables = flax_variables(theirs, models.layer_table(model, shape))
    images = np.random.default_rng(2).uniform(0, 1, (2, *shape)).astype(np.float32)
    ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    expected = np.asarray(theirs(images, training=False))
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(expected).max())


def keep_gradients() -> optax.GradientTransformation:
    """An optimizer that changes nothing and keeps the gradients as its state."""

    def update(grads, state, params=None):
        return jax.tree.map(jnp.zeros_like, grads), grads

    return optax.GradientTransformation(lambda params: params, update)


@pytest.fixture
def double_precision(monkeypatch):
    """Computes in float64, where no rounding moves a unit over the kink of its ReLU."""
    # With JAX, Keras takes float64 and float32 together for float32: batch normalization would
    # round there.
    monkeypatch.setattr(
        keras.src.backend, "result_type", lambda *dtypes: jnp.result_type(*dtypes).name
    )
    with jax.enable_x64(True):
        # Both: Keras makes its policy of the float type once, when the first layer asks for it.
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        yield
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("name", ["alexnet_pool", "alexnet_l2"])
def test_training_mode_gives_the_same_loss_gradients_and_statistics(name):
    theirs = keras_model(name, dropout=False)
    randomize(theirs, seed=3)
    config = experiment_config(name)
    config.model.block_dropout = ()
    config.model.head_dropout = ()
    model = models.build(config.model, 10).clone(dtype="float64")
    rng = np.random.default_rng(4)
    images = rng.uniform(0, 1, (4, 28, 28, 1))
    labels = rng.integers(0, 10, 4).astype(np.int32)

    trainable = [weight.value for weight in theirs.trainable_variables]
    fixed = [weight.value for weight in theirs.non_trainable_variables]

    def keras_loss(trainable):
        logits, fixed_after, penalties = theirs.stateless_call(
            trainable, fixed, images, training=True, return_losses=True
        )
        crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        loss = crossentropy(labels, logits)
        return loss + sum(penalties), (loss, fixed_after)

    (total, (loss, fixed_after)), grads = jax.jit(jax.value_and_grad(keras_loss, has_aux=True))(
        trainable
    )
    by_variable = dict(
        zip(
            [v.path for v in (*theirs.trainable_variables, *theirs.non_trainable_variables)],
            [*grads, *fixed_after],
            strict=True,
        )
    )
    expected = flax_variables(
        theirs,
        rows := models.layer_table(model, (28, 28, 1)),
        [by_variable[weight.path] for weight in theirs.weights],
    )

    variables = flax_variables(theirs, rows)
    optimizer = keep_gradients()
    step = make_train_step(
        model,
        optimizer,
        preprocess=lambda images: images,
        penalty=lambda params: penalty(params, config.loss.l1, config.loss.l2),
    )
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
        key=jax.random.key(0),
    )
    batch = {"image": images, "label": labels, "mask": np.ones(4, bool)}
    after, metrics = jax.jit(step)(state, batch)

    assert float(metrics.loss) / 4 == pytest.approx(float(loss), rel=1e-5)
    assert float(metrics.penalty) == pytest.approx(float(total - loss), rel=1e-5, abs=1e-6)
    assert (float(metrics.penalty) > 1) == (name == "alexnet_l2")
    assert_trees_close(after.batch_stats, expected["batch_stats"], 1e-12)
    # Keras rounds some of its gradients to float32.
    assert_trees_close(after.opt_state, expected["params"], 1e-6)
