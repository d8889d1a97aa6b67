"""The CPU kernels against lax: values and gradients, exactly in float64, by rounding in float32."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from flaxlab import kernels
from flaxlab.data.pipeline import scale_pixels, train_batches
from flaxlab.kernels import patches, winograd
from flaxlab.training.experiment import assemble
from flaxlab.training.steps import make_train_step
from tests.conftest import small_config, small_dataset

LAYOUT = ("NHWC", "HWIO", "NHWC")
slow = settings(max_examples=30, deadline=None)


def random(*shape, dtype="float64", seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape).astype(dtype)


def value_and_gradients(function, *arrays):
    def run(*arrays):
        value, pull = jax.vjp(function, *arrays)
        # An uneven cotangent: a sum alone would not see pixels that change places.
        cotangent = jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape)
        return value, *pull(cotangent)

    return [np.asarray(array) for array in jax.jit(run)(*arrays)]


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
    [(3, 32, 4), (3, 6, 6), (3, 3, 3), (5, 12, 4), (5, 13, 4), (7, 9, 2), (8, 9, 0), (11, 18, 0)],
)
def test_the_tile_with_the_fewest_products_is_taken(kernel, side, tile):
    assert winograd.best_tile(kernel, side, side) == tile


pads = st.tuples(st.integers(0, 3), st.integers(0, 3))


@slow
@given(
    examples=st.integers(1, 3),
    sides=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    kernel=st.one_of(
        st.integers(1, 8).map(lambda side: (side, side)),
        st.tuples(st.integers(1, 4), st.integers(1, 4)),
    ),
    channels=st.sampled_from([1, 3, 16, 17]),
    features=st.sampled_from([1, 16, 18]),
    padding=st.one_of(st.sampled_from(["SAME", "VALID"]), st.tuples(pads, pads)),
    strides=st.sampled_from([(1, 1)] * 5 + [(2, 1), (2, 2)]),
    dilation=st.sampled_from([None] * 5 + [(2, 1)]),
)
def test_convolutions_equal_lax_in_float64(
    examples, sides, kernel, channels, features, padding, strides, dilation
):
    options = {"rhs_dilation": dilation, "dimension_numbers": LAYOUT}
    with jax.enable_x64(True):
        x, w = random(examples, *sides, channels), random(*kernel, channels, features)

        def by(conv):
            return lambda x, w: conv(x, w, strides, padding, **options)

        expected = value_and_gradients(by(lax.conv_general_dilated), x, w)
        got = value_and_gradients(by(kernels.conv_on_cpu), x, w)
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype == np.float64
        np.testing.assert_allclose(a, b, atol=1e-9, rtol=1e-9)


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
    options = {"dimension_numbers": LAYOUT, "padding": "SAME", **options}
    strides = (1,) * (len(lhs) - 2)
    arguments = random(*lhs, dtype="float32"), random(*rhs, dtype="float32"), strides
    got = kernels.conv_on_cpu(*arguments, **options)
    np.testing.assert_array_equal(got, lax.conv_general_dilated(*arguments, **options))


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


def test_a_convolution_maps_over_seeds():
    x, w = random(2, 2, 8, 8, 16, dtype="float32"), random(2, 3, 3, 16, 16, dtype="float32")

    def conv(x, w):
        return kernels.conv_on_cpu(x, w, (1, 1), "SAME", dimension_numbers=LAYOUT)

    together = jax.vmap(conv)(x, w)
    for seed in range(2):
        np.testing.assert_allclose(together[seed], conv(x[seed], w[seed]), atol=1e-4)


@slow
@given(
    sides=st.tuples(st.integers(5, 11), st.integers(5, 11)),
    window=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    seed=st.integers(0, 3),
)
def test_max_pooling_equals_linen(sides, window, strides, dtype, seed):
    # Few values, so that most windows hold their maximum more than once.
    x = np.random.default_rng((seed, *sides)).integers(0, 4, (2, *sides, 3)).astype(dtype)

    def by(pool):
        return lambda x: pool(x, window, strides)

    expected = value_and_gradients(by(nn.max_pool), x)
    got = value_and_gradients(by(kernels.max_pool_on_cpu), x)
    assert got[0].dtype == expected[0].dtype
    np.testing.assert_array_equal(got[0], expected[0])
    tolerance = 1e-6 if dtype == "float32" else 0.1  # sums of up to 25 cotangents, another order
    np.testing.assert_allclose(
        got[1].astype(np.float32), expected[1].astype(np.float32), atol=tolerance
    )


def test_max_pooling_passes_nan_on():
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 3, 3] = np.nan
    pooled = kernels.max_pool_on_cpu(x, (2, 2), (2, 2))
    np.testing.assert_array_equal(np.isnan(pooled).ravel(), [False, False, False, True])


def test_the_config_turns_them_off():
    batch = {"image": np.zeros((8, 8, 8, 1), np.uint8), "label": np.zeros(8, int)}
    batch["mask"] = np.ones(8, bool)
    programs = {}
    for fast in (True, False):
        experiment = assemble(small_config(**{"train.fast_kernels": fast}), small_dataset())
        state = experiment.create_state()
        programs[fast] = str(jax.make_jaxpr(experiment.train_step)(state, batch))
    assert "conv_general_dilated" in programs[False]
    assert "select_and_scatter" in programs[False]
    assert "conv_general_dilated" not in programs[True]
    assert "select_and_scatter" not in programs[True]


def test_other_backends_get_the_plain_ones():
    assert kernels.for_backend("gpu") == kernels.PLAIN
    assert kernels.for_backend("cpu", fast=False) == kernels.PLAIN
    assert kernels.for_backend("cpu") != kernels.PLAIN


def test_loss_curves_agree_within_the_noise_of_summation_order():
    overrides = {
        "model.blocks": (((16, 5), (16, 3)), ((32, 3), (32, 3))),
        "model.pools": ((2, 2), (3, 1)),
        "model.head_units": (32,),
        "model.head_dropout": (0.5,),
        "train.batch_size": 16,
    }
    experiment = assemble(small_config(**overrides), small_dataset(train=64, shape=(16, 16, 1)))
    epochs = range(1, 14)
    batches = [b for e in epochs for b in train_batches(experiment.splits.train, 16, 0, e)][:50]

    def backwards(x, w, *arguments, **options):
        """The same sums as `lax`, over the channels in the opposite order."""
        return lax.conv_general_dilated(x[..., ::-1], w[:, :, ::-1], *arguments, **options)

    def by_patches(x, w, strides, padding, **options):
        """The same sums in the order of a matrix product."""
        pads = lax.padtype_to_pads(x.shape[1:3], w.shape[:2], strides, padding)
        return patches.convolve(x, w, tuple(pads))

    def curve(conv, max_pool=nn.max_pool):
        model = experiment.model.clone(conv=conv, max_pool=max_pool)
        preprocess = functools.partial(scale_pixels, scaling="unit")
        step = jax.jit(
            make_train_step(model, experiment.optimizer, preprocess, lambda params: jnp.zeros(()))
        )
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
    # Whatever rounding there is, training amplifies it: what counts is how much it has become.
    assert difference.max() < 5 * noise.max()
