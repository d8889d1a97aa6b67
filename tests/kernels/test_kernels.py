"""The CPU kernels against lax: values and gradients, exactly in float64, by rounding in float32."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxlab import kernels
from flaxlab.batches.order import train_batches
from flaxlab.kernels import patches, winograd
from flaxlab.training.experiment import assemble
from tests.helpers.arrays import random, value_and_gradients
from tests.helpers.runs import small_config, small_dataset

LAYOUT = ("NHWC", "HWIO", "NHWC")
many = settings(max_examples=25, deadline=None)


@pytest.mark.parametrize(
    ("tile", "kernel"),
    [(m, r) for r in range(1, 8) for m in range(1, 9) if 2 <= m + r - 1 <= winograd.MAX_POINTS],
)
def test_transforms_correlate(tile, kernel):
    output, weights, inputs = winograd.transforms(tile, kernel)
    data, taps = random(tile + kernel - 1), random(kernel)
    got = output @ ((weights @ taps) * (inputs @ data))
    np.testing.assert_allclose(got, np.correlate(data, taps, "valid"), atol=1e-12)


def test_more_points_than_are_known_are_refused():
    with pytest.raises(ValueError, match="needs 9 points; at most 8"):
        winograd.transforms(5, 5)


@pytest.mark.parametrize(
    ("kernel", "side", "tile"),
    [
        (3, 32, 4),
        (3, 28, 4),  # a tile of 6 would take 9% fewer products, and round twice as much
        (3, 6, 6),
        (3, 3, 3),
        (3, 1, 0),
        (5, 12, 4),
        (5, 13, 4),
        (1, 8, 0),
        (7, 9, 0),
    ],
)
def test_the_tile_with_the_fewest_products_is_taken(kernel, side, tile):
    assert winograd.best_tile(kernel, side, side) == tile


pads = st.tuples(st.integers(0, 3), st.integers(0, 3))


shapes = {
    "examples": st.integers(1, 3),
    "sides": st.tuples(st.integers(1, 13), st.integers(1, 13)),
    "padding": st.tuples(pads, pads),
}

# Of the largest value: ten times what the roughest transforms (8 points) were seen to round.
TOLERANCES = {"float64": 1e-9, "float32": 5e-4}
dtypes = st.sampled_from(["float64", "float64", "float32"])


def assert_equal_to_lax(conv, x_shape, w_shape, strides, padding, dtype, **options):
    """Compares values and gradients in a dtype with those of lax in float64."""
    options["dimension_numbers"] = LAYOUT
    with jax.enable_x64(True):
        x, w = random(*x_shape), random(*w_shape)
        expected = value_and_gradients(
            lambda x, w: lax.conv_general_dilated(x, w, strides, padding, **options), x, w
        )
        got = value_and_gradients(conv, x.astype(dtype), w.astype(dtype))
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == dtype
        largest = np.abs(b).max(initial=1.0)
        np.testing.assert_allclose(a, b, atol=TOLERANCES[dtype] * largest, rtol=0)


@many
@given(
    kernel=st.integers(1, 7),
    tile=st.integers(1, 7),
    channels=st.integers(1, 3),
    dtype=dtypes,
    **shapes,
)
def test_winograd_equals_lax(dtype, kernel, tile, channels, examples, sides, padding):
    assume(2 <= tile + kernel - 1 <= winograd.MAX_POINTS)
    assume(all(side + sum(pad) >= kernel for side, pad in zip(sides, padding, strict=True)))
    assert_equal_to_lax(
        lambda x, w: winograd.convolve(x, w, padding, tile),
        (examples, *sides, channels),
        (kernel, kernel, channels, 2),
        (1, 1),
        padding,
        dtype,
    )


@many
@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    channels=st.integers(1, 3),
    dtype=dtypes,
    **shapes,
)
def test_patches_equal_lax(dtype, kernel, channels, examples, sides, padding):
    lengths = zip(sides, padding, kernel, strict=True)
    assume(all(side + sum(pad) >= length for side, pad, length in lengths))
    assert_equal_to_lax(
        lambda x, w: patches.convolve(x, w, padding),
        (examples, *sides, channels),
        (*kernel, channels, 2),
        (1, 1),
        padding,
        dtype,
    )


@many
@given(
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.sampled_from([(1, 1), (3, 3), (3, 3), (5, 5), (6, 6), (2, 3)]),
    channels=st.sampled_from([1, 16, 17]),
    features=st.sampled_from([1, 16, 18]),
    padding=st.one_of(st.sampled_from(["SAME", "VALID"]), shapes["padding"]),
    strides=st.sampled_from([(1, 1)] * 4 + [(2, 1)]),
    dtype=dtypes,
    dilation=st.sampled_from([None] * 4 + [(2, 1)]),
)
def test_convolutions_equal_lax(
    dtype, sides, kernel, channels, features, padding, strides, dilation
):
    options = {"rhs_dilation": dilation, "dimension_numbers": LAYOUT}
    assert_equal_to_lax(
        lambda x, w: kernels.conv_on_cpu(x, w, strides, padding, **options),
        (2, *sides, channels),
        (*kernel, channels, features),
        strides,
        padding,
        dtype,
        **options,
    )


@pytest.mark.parametrize(
    ("side", "channels", "kernel", "padding", "bound"),
    [(16, 16, 5, "VALID", 2e-5), (16, 16, 3, "SAME", 1e-5), (6, 32, 3, "SAME", 2e-5)],
)
def test_rounding_in_float32_is_bounded(side, channels, kernel, padding, bound):
    x = np.maximum(random(4, side, side, channels), 0)  # as after a ReLU
    w = random(kernel, kernel, channels, 24) * 0.1

    def by(conv):
        return lambda x, w: conv(x, w, (1, 1), padding, dimension_numbers=LAYOUT)

    with jax.enable_x64(True):
        expected = value_and_gradients(by(lax.conv_general_dilated), x, w)
    single = x.astype(np.float32), w.astype(np.float32)
    got = value_and_gradients(by(kernels.conv_on_cpu), *single)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == np.float32
        error = np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2))
        assert 0 < error < bound


@pytest.mark.parametrize(
    ("lhs", "rhs", "options"),
    [
        ((2, 8, 8, 16), (3, 3, 16, 16), {"precision": lax.Precision.HIGHEST}),
        ((2, 8, 8, 32), (3, 3, 16, 16), {"feature_group_count": 2}),
        ((2, 16, 8, 8), (16, 16, 3, 3), {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}),
        ((2, 8, 16), (3, 16, 16), {"dimension_numbers": ("NWC", "WIO", "NWC")}),
        ((2, 8, 8, 16), (3, 3, 16, 16), {"padding": ((-1, 1), (0, 0))}),
    ],
)
def test_what_is_not_simple_goes_to_lax(lhs, rhs, options):
    # The programs, not the results: for negative padding XLA on a CPU reads beyond the array.
    options = {"dimension_numbers": LAYOUT, "padding": "SAME", **options}
    arguments = random(*lhs, dtype="float32"), random(*rhs, dtype="float32")

    def program(conv):
        strides = (1,) * (len(lhs) - 2)
        return str(jax.make_jaxpr(lambda x, w: conv(x, w, strides, **options))(*arguments))

    assert program(kernels.conv_on_cpu) == program(lax.conv_general_dilated)


def test_sixteen_bits_go_to_lax():
    x, w = jnp.ones((1, 8, 8, 16), jnp.bfloat16), jnp.ones((3, 3, 16, 16), jnp.bfloat16)
    program = jax.make_jaxpr(
        lambda x, w: kernels.conv_on_cpu(x, w, (1, 1), "SAME", dimension_numbers=LAYOUT)
    )(x, w)
    assert "conv_general_dilated" in str(program)


def test_wrong_shapes_are_refused_as_by_lax():
    x, w = np.ones((1, 8, 8, 3), np.float32), np.ones((3, 3, 4, 5), np.float32)
    with pytest.raises(ValueError, match="feature dimension"):
        kernels.conv_on_cpu(x, w, (1, 1), "SAME", dimension_numbers=LAYOUT)


def layer(x, w):
    """A convolution by Winograd's algorithm and a max pooling."""
    y = kernels.conv_on_cpu(x, w, (1, 1), "SAME", dimension_numbers=LAYOUT)
    return kernels.max_pool_on_cpu(y, (2, 2), (2, 1))


def test_a_layer_maps_over_seeds():
    x, w = random(2, 2, 8, 8, 16, dtype="float32"), random(2, 3, 3, 16, 16, dtype="float32")
    together = value_and_gradients(jax.vmap(layer), x, w)
    alone = [jax.vjp(layer, x[seed], w[seed]) for seed in range(2)]
    np.testing.assert_allclose(together[0], np.stack([y for y, _ in alone]), atol=1e-4)
    cotangents = np.cos(np.arange(together[0].size, dtype=np.float32)).reshape(together[0].shape)
    for seed, (_, pull) in enumerate(alone):
        for ours, theirs in zip(together[1:], pull(cotangents[seed]), strict=True):
            np.testing.assert_allclose(ours[seed], theirs, atol=1e-3)


def test_a_layer_is_the_same_on_two_devices():
    x, w = random(4, 8, 8, 16, dtype="float32"), random(3, 3, 16, 16, dtype="float32")
    mesh = Mesh(np.array(jax.local_devices()[:2]), ("data",))
    split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    everywhere = jax.device_put(w, NamedSharding(mesh, PartitionSpec()))
    expected = value_and_gradients(layer, x, w)
    for ours, theirs in zip(value_and_gradients(layer, split, everywhere), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


@many
@given(
    sides=st.tuples(st.integers(5, 11), st.integers(5, 11)),
    window=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    seed=st.integers(0, 3),
    ours=st.sampled_from([kernels.max_pool_on_cpu, kernels.max_pool_on_gpu]),
)
def test_max_pooling_equals_linen(sides, window, strides, dtype, seed, ours):
    # Few values, so that most windows hold their maximum more than once.
    x = np.random.default_rng((seed, *sides)).integers(0, 4, (2, *sides, 3)).astype(dtype)

    def by(pool):
        return lambda x: pool(x, window, strides)

    expected = value_and_gradients(by(nn.max_pool), x)
    got = value_and_gradients(by(ours), x)
    assert got[0].dtype == expected[0].dtype
    np.testing.assert_array_equal(got[0], expected[0])
    tolerance = 1e-6 if dtype == "float32" else 0.1  # sums of up to 25 cotangents, another order
    np.testing.assert_allclose(
        got[1].astype(np.float32), expected[1].astype(np.float32), atol=tolerance
    )


@pytest.mark.parametrize("ours", [kernels.max_pool_on_cpu, kernels.max_pool_on_gpu])
def test_max_pooling_of_a_large_window_equals_linen(ours):
    x = random(1, 13, 15, 2, dtype="float32")
    expected = value_and_gradients(lambda x: nn.max_pool(x, (12, 12), (1, 3)), x)
    got = value_and_gradients(lambda x: ours(x, (12, 12), (1, 3)), x)
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_allclose(got[1], expected[1], atol=1e-6)


@pytest.mark.parametrize("ours", [kernels.max_pool_on_cpu, kernels.max_pool_on_gpu])
def test_max_pooling_passes_nan_on(ours):
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 3, 3] = np.nan
    pooled = ours(x, (2, 2), (2, 2))
    np.testing.assert_array_equal(np.isnan(pooled).ravel(), [False, False, False, True])


def test_the_config_turns_them_off():
    batch = {"image": np.zeros((8, 8, 8, 1), np.uint8), "label": np.zeros(8, int)}
    batch["mask"] = np.ones(8, bool)
    programs, dense_layers = {}, {}
    for fast in (True, False):
        experiment = assemble(small_config(**{"train.fast_kernels": fast}), small_dataset())
        state = experiment.create_state()
        programs[fast] = str(jax.make_jaxpr(experiment.train_step)(state, batch))
        scored = str(jax.make_jaxpr(experiment.eval_step)(state, batch))
        dense_layers[fast] = scored.count("name=_product")
    assert dense_layers == {True: 3, False: 0}
    assert "conv_general_dilated" in programs[False]
    assert "select_and_scatter" in programs[False]
    assert "conv_general_dilated" not in programs[True]
    assert "select_and_scatter" not in programs[True]


def test_each_backend_gets_its_own():
    assert kernels.for_backend("gpu").max_pool is kernels.max_pool_on_gpu
    assert kernels.for_backend("gpu").conv is kernels.PLAIN.conv
    assert kernels.for_backend("gpu").dot_general is kernels.PLAIN.dot_general
    assert kernels.for_backend("tpu") == kernels.PLAIN
    for backend in ("cpu", "gpu"):
        assert kernels.for_backend(backend, fast=False) == kernels.PLAIN
        assert kernels.for_backend(backend) != kernels.PLAIN


def test_loss_curves_differ_by_what_training_makes_of_rounding():
    overrides = {
        "model.blocks": (((16, 5), (16, 3)), ((32, 3), (32, 3))),
        "model.pools": ((2, 2), (3, 1)),
        "model.block_dropout": (0.1, 0.2),
        "model.head_units": (32,),
        "model.head_dropout": (0.5,),
        "train.batch_size": 16,
    }
    config = small_config(**overrides)
    dataset = small_dataset(train=64, shape=(16, 16, 1))
    epochs = [train_batches(dataset.train, 16, 0, epoch) for epoch in range(1, 14)]
    batches = list(itertools.islice(itertools.chain(*epochs), 50))

    def backwards(x, w, *arguments, **options):
        """The same sums as `lax`, over the channels in the opposite order."""
        return lax.conv_general_dilated(x[..., ::-1], w[:, :, ::-1], *arguments, **options)

    def by_patches(x, w, strides, padding, **options):
        """The same sums in the order of a matrix product."""
        pads = lax.padtype_to_pads(x.shape[1:3], w.shape[:2], strides, padding)
        return patches.convolve(x, w, tuple(pads))

    def curve(conv, max_pool=nn.max_pool):
        experiment = assemble(config, dataset, kernels.Kernels(conv, max_pool))
        step = jax.jit(experiment.train_step)
        state, losses = experiment.create_state(), []
        for batch in batches:
            state, metrics = step(state, batch)
            losses.append(float(metrics.loss) / 16)
        return np.array(losses)

    plain = curve(lax.conv_general_dilated)
    noise = np.max([np.abs(curve(conv) - plain) for conv in (backwards, by_patches)], axis=0)
    difference = np.abs(curve(kernels.conv_on_cpu, kernels.max_pool_on_cpu) - plain)
    assert plain[-5:].mean() < 0.2 * plain[:5].mean()  # it learns
    assert 0 < noise.max() < 0.1
    assert difference[:5].max() < 1e-3
    # Training amplifies whatever rounding there is: what counts is how much it has become. Winograd
    # rounds up to 20 times as much as a direct sum, and what comes of it was up to 38 times as far.
    assert np.all(difference < 60 * np.maximum.accumulate(noise) + 1e-5)
    assert difference.max() < 0.01
