"""The blocks and networks by properties and by hand."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlab import models
from flaxlab.models import ConvBlock, DenseBlock, Norm, Pool
from flaxlab.models.blocks import ACTIVATIONS, INITIALIZERS
from tests.helpers.runs import deeper_config

KEY = jax.random.key(0)


def test_pools_by_hand():
    image = jnp.arange(25.0).reshape(1, 5, 5, 1)
    largest = Pool("max", window=3, stride=2).apply({}, image)
    assert largest.squeeze().tolist() == [[12, 14], [22, 24]]
    # Whole windows only: the last row and column of a 5x5 image are left out.
    mean = Pool("avg", window=2, stride=2).apply({}, image)
    assert mean.squeeze().tolist() == [[3, 5], [13, 15]]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_keras(name):
    x = np.linspace(-4, 4, 33, dtype=np.float32)
    options = {"gelu": {"approximate": False}, "leaky_relu": {"negative_slope": 0.01}}
    expected = getattr(keras.activations, name)(x, **options.get(name, {}))
    np.testing.assert_allclose(ACTIVATIONS[name](x), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["relu", "silu"])
def test_a_block_has_its_activation_after_each_convolution(name):
    block = ConvBlock(convs=((3, 1), (2, 1)), padding="SAME", pool=(1, 1), activation=name)
    images = jax.random.normal(KEY, (2, 4, 4, 2))
    params = block.init(KEY, images, train=False)["params"]
    x = images
    for conv in ("conv1", "conv2"):  # kernels of 1x1 are matrices
        x = ACTIVATIONS[name](x @ params[conv]["kernel"][0, 0] + params[conv]["bias"])
    out = block.apply({"params": params}, images, train=False)
    np.testing.assert_allclose(out, x, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", 2 / (9 * 32 + 9 * 64)),
        ("he_normal", 2 / (9 * 32)),
        ("lecun_normal", 1 / (9 * 32)),
    ],
)
def test_kernels_are_drawn_with_the_variance_of_their_papers(name, variance):
    kernel = INITIALIZERS[name](KEY, (3, 3, 32, 64))
    assert np.mean(kernel) == pytest.approx(0, abs=4 * np.sqrt(variance / kernel.size))
    assert np.var(kernel) == pytest.approx(variance, rel=0.03)


def test_orthogonal_kernels_have_orthonormal_filters():
    matrix = np.reshape(INITIALIZERS["orthogonal"](KEY, (3, 3, 8, 16)), (-1, 16))
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(16), atol=1e-5)


def test_a_network_draws_all_its_kernels_as_its_config_says():
    config = deeper_config(**{"model.kernel_init": "orthogonal", "model.block_activation": "gelu"})
    model = models.build(config.model, 10)
    assert model.block_activation == "gelu"
    params = model.init(KEY, jnp.zeros((1, 8, 8, 1)), train=False)["params"]
    kernels = [x for x in jax.tree.leaves(params) if x.ndim > 1]
    assert len(kernels) == 6
    for kernel in kernels:
        matrix = np.reshape(kernel, (-1, kernel.shape[-1]))
        smaller = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
        np.testing.assert_allclose(smaller, np.eye(len(smaller)), atol=1e-5)


def test_a_block_normalizes_after_the_pool_by_the_batch_and_keeps_running_statistics():
    norm = Norm("batch", momentum=0.9)
    block = ConvBlock(convs=((3, 3),), padding="SAME", pool=(2, 2), norm=norm)
    bare = ConvBlock(convs=((3, 3),), padding="SAME", pool=(2, 2))
    images = jax.random.normal(KEY, (4, 6, 6, 2))
    variables = block.init(KEY, images, train=False)
    pooled = bare.apply({"params": {"conv1": variables["params"]["conv1"]}}, images, train=False)
    mean, var = np.mean(pooled, axis=(0, 1, 2)), np.var(pooled, axis=(0, 1, 2))
    out, updates = block.apply(variables, images, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(out, (pooled - mean) / np.sqrt(var + 1e-3), atol=1e-5)
    kept = updates["batch_stats"]["norm"]
    np.testing.assert_allclose(kept["mean"], 0.1 * mean, atol=1e-6)
    np.testing.assert_allclose(kept["var"], 0.9 + 0.1 * var, atol=1e-6)
    out = block.apply(variables, images, train=False)
    np.testing.assert_allclose(out, pooled / np.sqrt(1 + 1e-3), atol=1e-6)


def test_dropout_scales_what_it_keeps_and_only_in_training():
    block = DenseBlock(features=1000, activation="relu", dropout=0.25)
    x = jnp.ones((1, 5))
    variables = block.init(KEY, x, train=False)
    plain = block.apply(variables, x, train=False)
    dropped = block.apply(variables, x, train=True, rngs={"dropout": KEY})
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], plain[kept] / 0.75, rtol=1e-6)
    assert float(jnp.mean(kept[plain > 0])) == pytest.approx(0.75, abs=0.06)


def test_dropout_drops_the_same_values_in_float64():
    block = DenseBlock(features=1000, activation="relu", dropout=0.3)
    x = np.ones((8, 5), np.float32)
    variables = jax.device_get(block.init(KEY, x, train=False))
    single = block.apply(variables, x, train=True, rngs={"dropout": KEY})
    with jax.enable_x64(True):
        double = block.clone(dtype=jnp.dtype("float64")).apply(
            variables, x, train=True, rngs={"dropout": KEY}
        )
    assert double.dtype == np.float64
    np.testing.assert_array_equal(np.asarray(single) == 0, np.asarray(double) == 0)


def test_initial_values_are_glorot_uniform_and_zero():
    block = DenseBlock(features=300, activation="tanh")
    params = block.init(KEY, jnp.ones((1, 200)), train=False)["params"]["dense"]
    limit = np.sqrt(6 / 500)
    assert np.abs(params["kernel"]).max() <= limit
    assert np.std(params["kernel"]) == pytest.approx(limit / np.sqrt(3), rel=0.02)
    assert not params["bias"].any()


def test_flops_against_xla():
    config = deeper_config(**{"model.norm": "none"})
    model = models.build(config.model, 3)
    rows = models.layer_table(model, (8, 8, 1))
    variables = model.init(KEY, jnp.ones((1, 8, 8, 1)), train=False)
    compiled = jax.jit(lambda v, x: model.apply(v, x, train=False)).lower(
        variables, jnp.ones((1, 8, 8, 1))
    )
    counted = compiled.compile().cost_analysis()["flops"]
    ours = sum(row.flops for row in rows)
    # XLA leaves multiplications with the padding out and counts biases and activations.
    assert ours == pytest.approx(counted, rel=0.25)
    first = rows[0]
    assert first.flops == 2 * 8 * 8 * 4 * 3 * 3
    assert rows[-1].flops == 2 * 8 * 3


def test_a_row_of_the_table_of_layers():
    config = deeper_config(**{"model.batch_norm_momentum": 0.75})
    rows = models.layer_table(models.build(config.model, 3), (8, 8, 1))
    expected = ("block1/norm", "BatchNorm", (4, 4, 4), 8, 8, 0, 0.75, "momentum 0.75")
    assert [row for row in rows if row.path == "block1/norm"] == [expected]


def test_average_pooling_is_one_knob():
    model = models.build(deeper_config(**{"model.pool_kind": "avg"}).model, 3)
    usual = models.build(deeper_config().model, 3)
    images = jax.random.uniform(KEY, (2, 8, 8, 1))
    variables = usual.init(KEY, images, train=False)
    ours, theirs = (m.apply(variables, images, train=False) for m in (model, usual))
    assert not np.allclose(ours, theirs)


def test_alexnet_and_vgg_stand_alone():
    logits = models.AlexNet(num_classes=7).lazy_init(
        KEY, jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32), train=False
    )
    assert logits["params"]["output"]["kernel"].shape == (4096, 7)
    assert models.VGG(num_classes=7).pools[-1] == (2, 1)
