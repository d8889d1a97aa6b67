"""The precision of products, as it stands in the program that is compiled."""

import jax
import jax.numpy as jnp
import pytest

from flaxlab.kernels.precision import with_precision


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("default", "[DEFAULT, DEFAULT]"),
        ("tensorfloat32", "[HIGH, HIGH]"),
        ("float32", "[HIGHEST, HIGHEST]"),
    ],
)
def test_products_are_compiled_with_the_precision(precision, expected):
    x = jnp.ones((4, 4))
    text = jax.jit(with_precision(jnp.matmul, precision)).lower(x, x).as_text()
    (product,) = [line for line in text.splitlines() if "dot_general" in line]
    assert f"precision = {expected}" in product
