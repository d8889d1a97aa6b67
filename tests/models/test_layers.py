"""The kinds of layers against Keras, NumPy and hand-worked cases, and their places in a block."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaxlab import models
from flaxlab.errors import UsageError
from flaxlab.models import ConvBlock, DenseBlock, Dropout, Norm, Pool
from flaxlab.models.norm import Standardized
from flaxlab.training.experiment import assemble
from tests.helpers.runs import deeper_config, small_dataset

KEY = jax.random.key(0)


def normalized(norm, x, **parameters):
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return norm(x, train=True)

    return Network().apply({"params": {"norm": parameters}}, x)


@pytest.mark.parametrize(
    ("norm", "groups"),
    [(Norm("group", groups=3), 3), (Norm("layer"), 1), (Norm("instance"), -1)],
)
@pytest.mark.parametrize("shape", [(4, 5, 6, 12), (4, 12)])
def test_normalizations_of_one_example_are_those_of_keras(norm, groups, shape):
    if norm.kind == "instance" and len(shape) == 2:
        pytest.skip("a dense layer has one value in a channel")
    x = np.random.default_rng(0).normal(3.0, 2.0, shape).astype(np.float32)
    scale, bias = np.linspace(0.5, 2, 12), np.linspace(-1, 1, 12)
    reference = keras.layers.GroupNormalization(groups, epsilon=1e-3)
    reference.build(shape)
    reference.set_weights([scale, bias])
    ours = normalized(norm, x, scale=scale.astype(np.float32), bias=bias.astype(np.float32))
    np.testing.assert_allclose(ours, reference(x), atol=2e-5)


def test_a_normalization_of_one_example_does_not_look_at_the_others():
    config = deeper_config(**{"model.norm": "group", "model.norm_groups": 2})
    model = models.build(config.model, 3)
    images = jax.random.normal(KEY, (4, 8, 8, 1))
    variables = model.init(KEY, images, train=False)
    assert "batch_stats" not in variables
    whole = model.apply(variables, images, train=False)
    np.testing.assert_allclose(
        model.apply(variables, images[:1], train=False), whole[:1], atol=1e-6
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model.norm": "group"}, "32 groups do not divide the 4 channels"),
        ({"model.norm": "instance", "model.pools": ((2, 2), (4, 1))}, "a channel of one value 0"),
    ],
)
def test_a_normalization_that_does_not_fit_is_one_line(fields, message):
    with pytest.raises(UsageError, match=message):
        assemble(deeper_config(**fields), small_dataset())


def test_standardized_kernels_have_mean_0_and_variance_1_for_each_filter():
    kernel = np.random.default_rng(0).normal(0.3, 0.2, (3, 3, 5, 7)).astype(np.float32)
    _, standard = Standardized(lambda images, kernel: (images, kernel))(None, kernel)
    matrix = kernel.reshape(-1, 7)
    expected = (matrix - matrix.mean(0)) / matrix.std(0)
    np.testing.assert_allclose(standard.reshape(-1, 7), expected, atol=1e-5)


def test_a_kernel_of_one_value_cannot_be_standardized():
    with pytest.raises(UsageError, match="a standardized kernel of one value is 0"):
        assemble(
            deeper_config(
                **{"model.standardize_kernels": True, "model.blocks": (((4, 1),), ((8, 3),))}
            ),
            small_dataset(),
        )


@pytest.mark.parametrize("kind", ["batch", "layer", "group", "instance"])
def test_epsilon_is_added_to_the_variance(kind):
    x = jax.random.normal(KEY, (4, 3, 3, 6))
    norm = Norm(kind, groups=2, epsilon=0.5)

    class Only(nn.Module):
        @nn.compact
        def __call__(self, x):
            return norm(x, train=True)

    out, _ = Only().init_with_output(KEY, x)
    grouped = np.asarray(x).reshape(4, 3, 3, 2, 3)
    axes = {"batch": (0, 1, 2), "layer": (1, 2, 3, 4), "group": (1, 2, 4), "instance": (1, 2)}[kind]
    if kind == "batch":
        grouped = np.asarray(x)
    mean, var = grouped.mean(axes, keepdims=True), grouped.var(axes, keepdims=True)
    expected = (grouped - mean) / np.sqrt(var + 0.5)
    np.testing.assert_allclose(out, expected.reshape(x.shape), atol=1e-5)


def test_a_network_with_standardized_kernels_does_not_feel_their_scale():
    config = deeper_config(**{"model.standardize_kernels": True})
    model = models.build(config.model, 3)
    images = jax.random.normal(KEY, (2, 8, 8, 1))
    variables = model.init(KEY, images, train=False)
    scaled = jax.tree_util.tree_map_with_path(
        lambda path, x: 5 * x if "conv" in str(path) and "kernel" in str(path) else x, variables
    )
    ours, theirs = (model.apply(v, images, train=False) for v in (variables, scaled))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    usual = models.build(deeper_config().model, 3)
    assert not np.allclose(usual.apply(variables, images, train=False), ours, atol=1e-2)


def test_a_pooling_that_learns_is_a_convolution_of_keras():
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 3)).astype(np.float32)
    pool = Pool("conv", 3, 2)
    variables = pool.init(KEY, x)
    reference = keras.layers.Conv2D(3, 3, strides=2)
    reference.build(x.shape)
    reference.set_weights([variables["params"]["conv"][name] for name in ("kernel", "bias")])
    np.testing.assert_allclose(pool.apply(variables, x), reference(x), atol=1e-5)


def test_a_blurred_pooling_by_hand():
    x = jnp.array([[0, 4, 0, 0], [0, 0, 0, 8], [0, 0, 0, 0], [4, 0, 0, 0]], jnp.float32)
    # Maxima of 2x2, stride 1: 4 4 8 / 0 0 8 / 4 0 0. Smoothed along rows, the edges repeated, at
    # columns 0 and 2: 4 7 / 0 6 / 3 0. Then along columns, at rows 0 and 2.
    found = Pool("blur", 2, 2).apply({}, x[None, :, :, None]).squeeze()
    np.testing.assert_allclose(found, [[3.0, 6.75], [2.25, 1.5]])


@given(
    kind=st.sampled_from(["max", "avg", "conv", "blur"]),
    window=st.integers(1, 4),
    stride=st.integers(1, 4),
    side=st.integers(4, 11),
)
def test_all_poolings_of_one_window_and_stride_give_the_same_size(kind, window, stride, side):
    pool = Pool(kind, window, stride)
    images = jax.ShapeDtypeStruct((2, side, side + 1, 3), jnp.float32)
    found, _ = jax.eval_shape(pool.init_with_output, KEY, images)
    assert found.shape == (2, (side - window) // stride + 1, (side + 1 - window) // stride + 1, 3)


def test_a_learned_pooling_is_followed_by_the_activation():
    block = ConvBlock(convs=((4, 3),), padding="SAME", pool=(2, 2), pool_kind="conv")
    images = jax.random.normal(KEY, (8, 6, 6, 2))
    out, _ = block.init_with_output(KEY, images, train=False)
    assert out.min() == 0


def dropped(kind, x, rate=0.25, region=3):
    layer = Dropout(rate, kind=kind, region=region)
    return np.asarray(layer.apply({}, x, train=True, rngs={"dropout": KEY}))


def test_whole_channels_are_dropped():
    x = jnp.ones((50, 4, 5, 40))
    found = dropped("channel", x)
    channels = found.reshape(50, 20, 40)
    assert (channels == channels[:, :1]).all()
    share = (channels[:, 0] == 0).mean()
    assert share == pytest.approx(0.25, abs=0.04)
    np.testing.assert_allclose(np.unique(found), [0, 1 / 0.75], rtol=1e-6)


def test_regions_are_squares_of_the_stated_share_and_the_mean_stays():
    x = jnp.ones((40, 12, 10, 16))
    found = dropped("region", x, rate=0.2)
    zero = found == 0
    # By each 3x3 window that is dropped as a whole: what they cover is all that is dropped.
    windows = np.lib.stride_tricks.sliding_window_view(zero, (3, 3), axis=(1, 2)).all((-2, -1))
    covered = np.zeros_like(zero)
    for row, column in np.ndindex(3, 3):
        covered[:, row : row + 10, column : column + 8] |= windows
    np.testing.assert_array_equal(covered, zero)
    assert 0.14 < zero.mean() < 0.2  # overlaps make it less than the rate
    assert found.mean() == pytest.approx(1, abs=1e-5)


def test_a_region_is_at_most_the_image():
    found = dropped("region", jnp.ones((200, 2, 3, 4)), rate=0.3, region=7)
    assert np.isfinite(found).all()
    assert (found.max((1, 2)) > 0).any()


@pytest.mark.parametrize("kind", ["channel", "region"])
def test_evaluation_drops_nothing(kind):
    x = jax.random.normal(KEY, (2, 4, 4, 3))
    assert Dropout(0.5, kind=kind).apply({}, x, train=False) is x


@pytest.mark.parametrize("kind", ["channel", "region"])
def test_the_mask_of_two_devices_is_that_of_one(kind):
    x = jnp.ones((8, 6, 6, 4))
    whole = dropped(kind, x)
    layer = Dropout(0.25, axis_name="batch", kind=kind)
    halves = jax.vmap(
        lambda part: layer.apply({}, part, train=True, rngs={"dropout": KEY}), axis_name="batch"
    )(x.reshape(2, 4, 6, 6, 4))
    np.testing.assert_array_equal(halves.reshape(x.shape), whole)


@pytest.mark.parametrize("place", ["before_activation", "after_activation"])
def test_a_block_normalizes_before_or_after_its_activation(place):
    block = ConvBlock(
        convs=((3, 1),), padding="SAME", pool=(1, 1), norm=Norm("layer"), norm_place=place
    )
    head = DenseBlock(features=3, activation="relu", norm=Norm("layer"), norm_place=place)
    images = jax.random.normal(KEY, (2, 1, 1, 5))
    for module, x, name in ((block, images, "conv1"), (head, images[:, 0, 0], "dense")):
        out, variables = module.init_with_output(KEY, x, train=False)
        values = x.reshape(2, 5) @ variables["params"][name]["kernel"].reshape(5, 3)

        def layer_norm(x):
            return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-3)

        relu = jax.nn.relu
        before = place == "before_activation"
        expected = relu(layer_norm(values)) if before else layer_norm(relu(values))
        np.testing.assert_allclose(out.reshape(2, 3), expected, atol=1e-5)


@pytest.mark.parametrize("place", ["after_norm", "before_norm"])
def test_a_block_drops_before_or_after_its_batch_normalization(place):
    norm = Norm("batch", momentum=0.9)
    fields = {"dropout": 0.4, "dropout_place": place, "norm": norm}
    block = ConvBlock(convs=((3, 1),), padding="SAME", pool=(1, 1), **fields)
    head = DenseBlock(features=3, activation="relu", **fields)
    images = jax.random.normal(KEY, (64, 1, 1, 5))
    for module, x, name in ((block, images, "conv1"), (head, images[:, 0, 0], "dense")):
        variables = module.init(KEY, x, train=False)
        values = np.maximum(x.reshape(64, 5) @ variables["params"][name]["kernel"].reshape(5, 3), 0)
        out, kept = module.apply(
            variables,
            x,
            train=True,
            rngs={"dropout": KEY},
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: module.name == "dropout",
        )
        (left,) = kept["intermediates"]["dropout"]["__call__"]
        left = np.asarray(left).reshape(64, 3)

        def normalized(x):
            return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3)

        # ReLU makes zeros too; where it does, dropping changes nothing.
        given = normalized(values) if place == "after_norm" else values
        dropped = np.where(left == 0, 0, given / 0.6)
        assert 0 < (left == 0)[given != 0].mean() < 1
        np.testing.assert_allclose(left, dropped, atol=1e-5)
        expected = dropped if place == "after_norm" else normalized(dropped)
        np.testing.assert_allclose(out.reshape(64, 3), expected, atol=1e-5)
        var = kept["batch_stats"]["norm"]["var"]
        seen = values if place == "after_norm" else dropped
        np.testing.assert_allclose(var, 0.9 + 0.1 * seen.var(0), atol=1e-5)


def test_the_head_can_take_the_mean_of_each_channel():
    fields = {"model.head_input": "average", "model.head_units": (), "model.head_dropout": ()}
    config = deeper_config(**fields)
    model = models.build(config.model, 3)
    assert models.layer_table(model, (8, 8, 1))[-1].trainable == 8 * 3 + 3
    images = jax.random.normal(KEY, (5, 8, 8, 1))
    variables = model.init(KEY, images, train=False)
    logits, kept = model.apply(variables, images, train=False, capture_intermediates=True)
    (maps,) = kept["intermediates"]["block2"]["__call__"]
    output = variables["params"]["output"]
    means = np.asarray(maps).mean(axis=(1, 2))
    np.testing.assert_allclose(logits, means @ output["kernel"] + output["bias"], atol=1e-5)
