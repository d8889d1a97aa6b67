"""No value that is not finite is overlooked, and none that is finite is taken for one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flaxlab.kernels.finite import all_finite

# Few shapes: each is compiled.
shapes = st.sampled_from([(), (3,), (2, 3), (2, 1, 3, 4)])
floats = arrays.arrays(np.float32, shapes, elements=st.floats(width=32))


@given(st.lists(floats, min_size=1, max_size=3))
def test_it_is_what_numpy_says(leaves):
    expected = all(np.isfinite(leaf).all() for leaf in leaves)
    assert bool(all_finite(leaves)) == expected


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_in_a_compiled_program_is_enough(dtype, bad):
    found = jax.jit(all_finite)
    # The largest numbers of the type, of both signs and next to each other.
    large = jnp.full((3, 3, 16, 64), jnp.finfo(dtype).max, dtype).at[::2].multiply(-1)
    assert found({"kernel": large, "bias": jnp.zeros(64, dtype)})
    for place in ((0, 0, 0, 0), (2, 2, 15, 63), (1, 0, 7, 31)):
        assert not found({"kernel": large.at[place].set(bad), "bias": jnp.zeros(64, dtype)})
    assert not found({"kernel": large, "bias": jnp.zeros(64, dtype).at[63].set(bad)})
    assert not found(jnp.asarray(bad, dtype))
