"""Statistics of batch normalization: sums over batches against NumPy, and refusals."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from flaxlab.errors import UsageError
from flaxlab.models.batch_statistics import (
    batch_moments,
    momenta_of,
    no_moments,
    statistics_of,
)


def test_moments_of_batches_are_those_of_all_examples():
    values = np.random.default_rng(0).normal(3, 2, (24, 5)).astype(np.float32)
    parts = [
        batch_moments({"norm": {"mean": part.mean(0), "var": part.var(0)}}, len(part))
        for part in (values[:16], values[16:])
    ]
    nothing = no_moments({"norm": {"mean": np.full(5, np.nan, np.float32), "var": np.ones(5)}})
    found = statistics_of(nothing + parts[0] + parts[1])["norm"]
    np.testing.assert_allclose(found["mean"], values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["var"], values.var(0), rtol=1e-5)


class Whitened(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        self.variable("batch_stats", "largest", lambda: jnp.zeros(()))
        return nn.Dense(3, name="output")(images.reshape(len(images), -1))


class Frozen(nn.Module):
    momentum: float = 0.9

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.BatchNorm(use_running_average=self.momentum < 1, momentum=self.momentum)(images)
        return nn.Dense(3, name="output")(x.reshape(len(images), -1))


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (Whitened(), "the network itself"),
        (Frozen(), "BatchNorm_0"),
        (Frozen(momentum=1.0), "BatchNorm_0"),
    ],
)
def test_statistics_that_batches_do_not_make_are_one_line(network, name):
    with pytest.raises(UsageError, match=f"^the statistics of {name} are not those that"):
        momenta_of(network, (8, 8, 1))
