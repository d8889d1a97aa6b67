"""The products of dense layers against lax: values, gradients, and what XLA makes of them."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from flaxlab.kernels.dense import dot_on_cpu
from tests.helpers import arrays
from tests.helpers.arrays import value_and_gradients

LAYER = (((1,), (0,)), ((), ()))
random = functools.partial(arrays.random, dtype="float32")


def check_as_lax(lhs, rhs, numbers, **tolerance):
    ours, expected = (
        value_and_gradients(functools.partial(multiply, dimension_numbers=numbers), lhs, rhs)
        for multiply in (dot_on_cpu, lax.dot_general)
    )
    for got, wanted in zip(ours, expected, strict=True):
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        np.testing.assert_allclose(
            got.astype("float32"), wanted.astype("float32"), **tolerance or {"rtol": 1e-5}
        )


@pytest.mark.parametrize("leading", [(), (4,), (1, 3), (2, 1, 3)])
def test_a_layer_is_what_lax_says(leading):
    numbers = (((len(leading),), (0,)), ((), ()))
    check_as_lax(random(*leading, 7), random(7, 5), numbers, rtol=1e-4, atol=1e-5)


def test_a_layer_in_bfloat16_is_what_lax_says():
    lhs, rhs = jnp.asarray(random(8, 5), "bfloat16"), jnp.asarray(random(5, 3), "bfloat16")
    check_as_lax(lhs, rhs, LAYER, rtol=1e-2)


@pytest.mark.parametrize(
    ("left", "right", "numbers"),
    [
        ((4, 5), (3, 5), (((1,), (1,)), ((), ()))),  # of a transposed kernel
        ((2, 4, 5), (2, 5, 3), (((2,), (1,)), ((0,), (0,)))),  # a batch of products
        ((4, 5), (5,), LAYER),
        ((0, 5), (5, 3), LAYER),
        ((), (), (((), ()), ((), ()))),  # of two numbers
    ],
)
def test_other_products_are_what_lax_says(left, right, numbers):
    check_as_lax(random(*left), random(*right), numbers)


def test_options_are_those_of_lax():
    lhs, rhs = jnp.asarray(random(4, 5), "bfloat16"), jnp.asarray(random(5, 3), "bfloat16")
    options = {"precision": lax.Precision.HIGHEST, "preferred_element_type": jnp.float32}
    assert dot_on_cpu(lhs, rhs, LAYER, **options).dtype == "float32"
    assert dot_on_cpu(lhs, rhs, LAYER, None, jnp.float32).dtype == "float32"
    with pytest.raises(TypeError, match="contract"):
        dot_on_cpu(random(4, 5), random(4, 3), LAYER)


def test_seeds_map_over_a_layer():
    lhs, rhs = random(3, 4, 5), random(3, 5, 2)

    def gradients(multiply):
        def total(lhs, rhs):
            return jnp.sum(jnp.sin(multiply(lhs, rhs, LAYER)))

        return jax.vmap(jax.grad(total, argnums=(0, 1)))(lhs, rhs)

    for got, wanted in zip(gradients(dot_on_cpu), gradients(lax.dot_general), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_a_gradient_that_nobody_asks_for_is_not_computed():
    def products(*asked):
        def total(lhs, rhs):
            return jnp.sum(dot_on_cpu(lhs, rhs, LAYER) ** 2)

        return str(jax.make_jaxpr(jax.grad(total, asked))(random(4, 5), random(5, 3))).count("dot_")

    assert products(1) < products(0, 1)


@pytest.mark.parametrize("place", ["cotangent", "kernel"])
def test_nan_is_in_the_gradient_of_the_kernel(place):
    lhs, rhs = random(4, 5), random(5, 3)
    cotangent = random(4, 3)
    (cotangent if place == "cotangent" else rhs)[1, 2] = np.nan
    _, pull = jax.vjp(lambda lhs, rhs: dot_on_cpu(lhs, rhs, LAYER), lhs, rhs)
    assert np.isnan(pull(cotangent)[1]).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_gradient_hides_what_is_not_finite(bad):
    lhs, rhs = random(4, 5), random(5, 3)
    lhs[1, 2] = bad
    layer = functools.partial(dot_on_cpu, dimension_numbers=LAYER)
    value, of_inputs, of_kernel = value_and_gradients(layer, lhs, rhs)
    assert not np.isfinite(value[1]).any()
    assert np.isfinite(of_inputs).all()
    assert not np.isfinite(of_kernel[2]).any()
    assert np.isfinite(np.delete(of_kernel, 2, axis=0)).all()


def two_layers(multiply, kernels, images):
    hidden = jnp.tanh(multiply(images, kernels[0], LAYER))
    return jnp.sum(multiply(hidden, kernels[1], LAYER) ** 2)


def test_the_kernels_gradient_needs_no_transpose():
    def transposes(multiply):
        gradient = jax.grad(functools.partial(two_layers, multiply))
        traced = str(jax.make_jaxpr(gradient)([random(5, 7), random(7, 3)], random(4, 5)))
        return traced.count("transpose[")

    assert transposes(dot_on_cpu) == 0
    assert transposes(lax.dot_general) >= 2


def test_an_update_in_place_copies_no_kernel():
    def copies(multiply):
        @functools.partial(jax.jit, donate_argnums=0)
        def update(kernels, images):
            gradients = jax.grad(functools.partial(two_layers, multiply))(kernels, images)
            return jax.tree.map(lambda kernel, change: kernel - change, kernels, gradients)

        compiled = update.lower([random(50, 70), random(70, 30)], random(4, 50)).compile()
        return re.findall(r"= f32\[(?:50,70|70,30)\]\S* copy\(", compiled.as_text())

    assert copies(dot_on_cpu) == []
    assert copies(lax.dot_general) != []
