"""Whether two results are the same: to the bit, or but for rounding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

# What a row of the history takes from the clock.
TIMED = {"seconds", "images_per_second"}


def _leaves(tree):
    """Lists (path, array) of each leaf, the words of a key in place of the key."""
    return [
        (path, jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def assert_same_bits(ours, expected):
    """Fails unless the trees have the same paths, types and bits."""
    ours, expected = _leaves(ours), _leaves(expected)
    assert [path for path, _ in ours] == [path for path, _ in expected]
    assert ours
    for (path, a), (_, b) in zip(ours, expected, strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), jax.tree_util.keystr(path)


def assert_close(ours, expected, atol=1e-6):
    """Fails unless the trees have the same paths, and values that differ by rounding at most."""
    ours, expected = _leaves(ours), _leaves(expected)
    assert [path for path, _ in ours] == [path for path, _ in expected]
    assert ours
    for (path, a), (_, b) in zip(ours, expected, strict=True):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(a, b, atol=atol, rtol=1e-5, err_msg=name)


def without_times(history):
    """Returns the rows of a history without what they take from the clock."""
    return [dataclasses.replace(row, **dict.fromkeys(TIMED)) for row in history]
