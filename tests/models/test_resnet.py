"""The residual network against an independent count of its parameters and against Keras."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from flaxlab import models
from flaxlab.config import default_config
from flaxlab.config.rules import validate
from flaxlab.errors import UsageError

KEY = jax.random.key(0)


def resnet(**fields):
    return models.ResNet(num_classes=10, **fields)


def counted(stages, filters, *, projection):
    """Weights without biases of 3x3 convolutions, two values a channel of each normalization."""
    total, channels = 9 * 3 * filters[0] + 2 * filters[0], filters[0]
    for stage, blocks in enumerate(stages):
        for _ in range(blocks):
            total += 9 * channels * filters[stage] + 9 * filters[stage] ** 2 + 4 * filters[stage]
            if projection and channels != filters[stage]:
                total += channels * filters[stage] + 2 * filters[stage]
            channels = filters[stage]
    return total + channels * 10 + 10


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ({}, 269_722),
        ({"shortcut": "none"}, 269_722),
        ({"shortcut": "projection"}, 272_474),
        ({"stages": (18, 18, 18)}, 1_727_962),  # 110 layers
        ({"filters": (64, 128, 256)}, 4_286_026),
    ],
)
def test_parameters(fields, parameters):
    model = resnet(**fields)
    rows = models.layer_table(model, (32, 32, 3))
    projection = model.shortcut == "projection"
    assert models.count_trainable(rows) == parameters
    assert counted(model.stages, model.filters, projection=projection) == parameters
    convolutions = [row for row in rows if row.kind == "Conv" and "projection" not in row.path]
    assert len(convolutions) == 2 * sum(model.stages) + 1
    assert rows[-1].path == "output"


def test_each_stage_halves_the_image():
    rows = {row.path: row for row in models.layer_table(resnet(), (32, 32, 3))}
    shapes = [rows[f"stage{stage}_block3/conv2"].shape for stage in (1, 2, 3)]
    assert shapes == [(32, 32, 16), (16, 16, 32), (8, 8, 64)]


def keras_block(x, filters, stride, shortcut, activation="relu", epsilon=1e-5):
    """He et al. (2016), figure 3, with zeros on both sides where the stride is 2."""
    layers = keras.layers

    def convolve(x, kernel, stride, name):
        x = layers.ZeroPadding2D(kernel // 2)(x)
        options = {"strides": stride, "use_bias": False, "name": name}
        return layers.Conv2D(filters, kernel, **options)(x)

    def normalize(x, name):
        return layers.BatchNormalization(epsilon=epsilon, momentum=0.9, name=name)(x)

    activate = layers.Activation(activation)
    y = activate(normalize(convolve(x, 3, stride, "conv1"), "norm1"))
    y = normalize(convolve(y, 3, 1, "conv2"), "norm2")
    if shortcut == "projection" and (stride > 1 or x.shape[-1] != filters):
        x = normalize(convolve(x, 1, stride, "projection"), "projection_norm")
    elif shortcut == "pad" and (stride > 1 or x.shape[-1] != filters):
        x = layers.AveragePooling2D(1, stride)(x)  # every stride-th pixel
        x = layers.Concatenate()([x, keras.ops.zeros_like(y)[..., : filters - x.shape[-1]]])
    return activate(y if shortcut == "none" else layers.Add()([x, y]))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("shortcut", "activation", "epsilon"),
    [
        ("pad", "relu", 1e-5),
        ("projection", "relu", 0.5),
        ("none", "relu", 1e-5),
        ("pad", "elu", 0.1),
    ],
)
def test_a_residual_block_is_that_of_keras(shortcut, activation, epsilon, stride, train):
    filters = 4 * stride
    norm = models.Norm(momentum=0.9, epsilon=epsilon)
    block = models.resnet.ResidualBlock(filters, stride, shortcut, activation, "he_normal", norm)
    x = np.random.default_rng(0).normal(size=(5, 8, 6, 4)).astype(np.float32)
    given = keras.Input(x.shape[1:])
    reference = keras.Model(
        given, keras_block(given, filters, stride, shortcut, activation, epsilon)
    )
    variables = block.init(KEY, x, train=False)
    variables = jax.tree.map(lambda leaf: leaf + 0.1 * np.arange(leaf.shape[-1]), variables)
    for layer in reference.layers:
        values = {
            **variables["params"].get(layer.name, {}),
            **variables["batch_stats"].get(layer.name, {}),
        }
        names = [name for name in ("kernel", "scale", "bias", "mean", "var") if name in values]
        layer.set_weights([values[name] for name in names])
    ours, _ = block.apply(variables, x, train=train, mutable=["batch_stats"])
    np.testing.assert_allclose(ours, reference(x, training=train), atol=2e-5)


def test_without_normalization_the_convolutions_have_biases():
    rows = models.layer_table(resnet(norm="none"), (32, 32, 3))
    assert rows[0].trainable == 9 * 3 * 16 + 16


def test_stochastic_depth_skips_the_convolutions_of_whole_examples():
    deep = resnet(stages=(1, 1), filters=(4, 4), stochastic_depth=0.999, norm="none")
    images = jax.random.normal(KEY, (16, 8, 8, 3))
    variables = deep.init(KEY, images, train=False)
    calls, _ = models.trace_modules(deep, (8, 8, 3))
    found = [module for module, *_ in calls.values() if isinstance(module, models.Dropout)]
    rates = [module.rate for module in found]
    np.testing.assert_allclose(rates, [0.4995, 0.999])
    _, kept = deep.apply(
        variables, images, train=True, rngs={"dropout": KEY}, capture_intermediates=True
    )
    first = kept["intermediates"]["stage1_block1"]
    skipped = np.asarray(first["skip"]["__call__"][0] == 0).all((1, 2, 3))
    assert 0 < skipped.sum() < 16
    # As Huang et al. (2016) have it, but scaled in training: the mean stays what it is.
    branch = np.asarray(first["conv2"]["__call__"][0])[~skipped]
    kept_branch = np.asarray(first["skip"]["__call__"][0])[~skipped]
    np.testing.assert_allclose(kept_branch, branch / (1 - 0.4995), rtol=1e-5)
    usual = deep.clone(stochastic_depth=0.0).apply(variables, images, train=True)
    assert np.isfinite(usual).all()


def test_a_residual_block_drops_between_its_convolutions():
    network = resnet(
        branch_dropout=0.4, branch_dropout_kind="channel", stages=(1,), filters=(4,), norm="none"
    )
    images = jax.random.normal(KEY, (6, 8, 8, 3))
    variables = network.init(KEY, images, train=False)
    keep = {"capture_intermediates": True, "mutable": True}
    _, kept = network.apply(variables, images, train=True, rngs={"dropout": KEY}, **keep)
    block = {
        name: calls["__call__"]
        for name, calls in kept["intermediates"]["stage1_block1"].items()
        if name != "__call__"
    }
    (given,), (left,), (after,) = block["activation1"], block["dropout"], block["conv2"]
    dropped = np.asarray(left == 0).all((1, 2), keepdims=True)
    assert 0 < dropped.mean() < 1
    np.testing.assert_allclose(left, np.where(dropped, 0, given / 0.6), rtol=1e-6)
    conv2 = variables["params"]["stage1_block1"]["conv2"]
    expected = jax.lax.conv_general_dilated(
        left, conv2["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(after, expected + conv2["bias"], atol=1e-5)


def test_the_knobs_of_a_network_reach_its_layers():
    fields = {"kernel_init": "orthogonal", "norm_epsilon": 0.5, "batch_norm_momentum": 0.6}
    network = resnet(stages=(1,), filters=(4,), standardize_kernels=True, **fields)
    images = jax.random.normal(KEY, (6, 8, 8, 3))
    variables = network.init(KEY, images, train=False)
    kernel = np.asarray(variables["params"]["conv"]["kernel"]).reshape(-1, 4)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(4), atol=1e-5)
    keep = {"capture_intermediates": lambda module, _: module.name in ("conv", "norm")}
    _, kept = network.apply(variables, images, train=True, mutable=True, **keep)
    given, normalized = (
        np.asarray(kept["intermediates"][name]["__call__"][0]) for name in ("conv", "norm")
    )
    standard = (kernel - kernel.mean(0)) / kernel.std(0)
    expected = jax.lax.conv_general_dilated(
        images,
        standard.reshape(3, 3, 3, 4),
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(given, expected, atol=1e-4)
    mean, var = given.mean((0, 1, 2)), given.var((0, 1, 2))
    np.testing.assert_allclose(normalized, (given - mean) / np.sqrt(var + 0.5), atol=1e-5)
    np.testing.assert_allclose(kept["batch_stats"]["norm"]["mean"], 0.4 * mean, atol=1e-6)


def test_bfloat16_keeps_parameters_and_logits_in_float32():
    model = resnet(dtype="bfloat16", stages=(1, 1), filters=(4, 8))
    logits, variables = model.init_with_output(KEY, jnp.ones((2, 8, 8, 3)), train=False)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("shortcut", "zeros", "expected one of pad, projection, none"),
        ("stages", (), "for each stage its number of residual blocks"),
        ("filters", (64, 32, 16), "that do not fall"),
        ("filters", (16, 32), "has 2 entries, but model.stages has 3"),
        ("stochastic_depth", 1.0, "at least 0.0 and below 1.0"),
    ],
)
def test_bad_values_are_one_line(field, value, message):
    config = default_config("resnet")
    config.model[field] = value
    with pytest.raises(UsageError, match=message):
        validate(config)
