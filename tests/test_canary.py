"""Two programs that XLA computes wrongly on a CPU unless flaxlab has set a flag.

Each runs in a process of its own: XLA reads its flags once.
"""

import platform

import pytest

from tests.helpers.processes import run_code

# The first is https://github.com/jax-ml/jax/issues/39103, which jaxlib 0.12.0.1 computes rightly.
# What both return is exact or nearly so in float32: whole numbers, or a sum of few products.
PROGRAMS = """
import jax
import jax.numpy as jnp
import numpy as np

numbers = jnp.arange(32769.0)
points = jnp.stack([numbers, 0 * numbers, 0 * numbers], axis=1)
lengths = jax.jit(jax.vmap(lambda point: jnp.sum(jnp.square(jnp.eye(3) @ point))))(points)
if lengths[-1] != 32768.0**2:
    print("squares")

rng = np.random.default_rng(0)
b, k = rng.normal(0, 1, (36, 700, 32)), rng.normal(0, 1, (36, 32, 48))
ones = np.ones((36, 16))


def summed(b, k):
    spread = jnp.einsum("pij,pjk->pik", b, k).transpose(1, 2, 0) @ ones
    return spread.sum((0, 1))


expected = np.einsum("pij,pjk->", b, k)
for _ in range(5):
    found = jax.jit(summed)(b.astype(np.float32), k.astype(np.float32))
    if not np.allclose(found, expected, rtol=1e-3):
        print("sums")
"""


def wrong(program: str) -> str:
    """Runs a program and returns the names of what it found wrong; a crash raises."""
    ended = run_code(program, environment={"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"})
    if ended.code:
        raise RuntimeError(ended.errors)
    return ended.shown


def test_programs_come_out_right_where_flaxlab_is_imported():
    assert wrong(f"import flaxlab\n{PROGRAMS}") == ""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="wrong where YNNPACK has x86 kernels")
@pytest.mark.xfail(
    raises=AssertionError,
    strict=True,
    reason="XLA computes them wrongly: when this passes, JAX needs the flag no more",
)
def test_programs_come_out_right_without_it():
    assert wrong(PROGRAMS) == ""
