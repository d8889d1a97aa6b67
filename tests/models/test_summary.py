"""The table of layers of networks that are written in other ways than flaxlab's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from flaxlab import models

SHAPE = (8, 8, 1)


class Scaled(nn.Module):
    """Holds values of its own beside those of its layer."""

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, (4,))
        return x + scale * nn.Conv(4, (3, 3), name="conv")(x)


class WithOwnValues(nn.Module):
    num_classes: int = 3

    @nn.compact
    def __call__(self, images, *, train):
        shift = self.param("shift", nn.initializers.zeros, (4,))
        x = Scaled(name="block")(nn.Conv(4, (1, 1), name="first")(images) + shift)
        return nn.Dense(self.num_classes, name="output")(x.mean((1, 2)))


class Pair(nn.Module):
    """Returns two arrays."""

    def setup(self):
        self.conv = nn.Conv(4, (3, 3))

    def __call__(self, x):
        return self.conv(x), x


class SetUp(nn.Module):
    """Has `setup`, a method beside `__call__`, and a layer that is called twice."""

    num_classes: int = 3

    def setup(self):
        self.pair = Pair()
        self.again = nn.Conv(4, (3, 3))
        self.output = nn.Dense(self.num_classes)

    def features(self, images):
        return self.again(self.again(self.pair(images)[0]))

    def __call__(self, images, *, train):
        return self.output(self.features(images).mean((1, 2)))


class Attention(nn.Module):
    num_classes: int = 3

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(8, (2, 2), strides=2, name="patches")(images).reshape(len(images), -1, 8)
        x = nn.MultiHeadDotProductAttention(2, name="mixed")(x)
        return nn.Dense(self.num_classes, name="output")(x.mean(1))


class Repeated(nn.Module):
    """Three dense layers in a loop, whose body JAX traces more than once."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, images, *, train):
        def body(layer, x, _):
            return layer(x), None

        loop = nn.scan(body, {"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = loop(nn.Dense(4, name="repeated"), images.mean((1, 2)) * jnp.ones(4), None)
        return nn.Dense(self.num_classes, name="output")(x)


class Odd(nn.Module):
    """Keeps a tree as a parameter, and calls a layer by another method than `__call__`."""

    num_classes: int = 3
    features: str = "none"

    @nn.compact
    def __call__(self, images, *, train):
        kernel = self.param("kernel", nn.initializers.ones, (1, 4))
        pair = self.param("pair", lambda key: [jnp.ones(4), jnp.ones(2)])
        x = images.mean((1, 2)) @ kernel * pair[0] + pair[1].sum()
        return nn.Embed(self.num_classes, 4, name="classes").attend(x)


NETWORKS = [WithOwnValues(), SetUp(), Attention(), Repeated(), Odd()]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_every_parameter_is_counted_once(network):
    variables = network.init(jax.random.key(0), jnp.zeros((1, *SHAPE)), train=False)
    counted = models.count_trainable(models.layer_table(network, SHAPE))
    assert counted == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_a_block_with_values_of_its_own_has_a_row():
    rows = [row[:4] for row in models.layer_table(WithOwnValues(), SHAPE)]
    assert rows == [
        ("first", "Conv", (8, 8, 4), 8),
        ("block/conv", "Conv", (8, 8, 4), 3 * 3 * 4 * 4 + 4),
        ("block", "Scaled", (8, 8, 4), 4),
        ("output", "Dense", (3,), 15),
        ("(the network)", "WithOwnValues", (3,), 4),
    ]


def test_a_layer_that_is_called_twice_computes_twice():
    flops = {row.path: row.flops for row in models.layer_table(SetUp(), SHAPE)}
    assert flops == {
        "pair/conv": 2 * 8 * 8 * 4 * 3 * 3,
        "again": 2 * (2 * 8 * 8 * 4 * 3 * 3 * 4),
        "output": 2 * 4 * 3,
    }


def test_a_dense_layer_with_several_axes_computes_each_value_once():
    flops = {row.path: row.flops for row in models.layer_table(Attention(), SHAPE)}
    assert flops["mixed/query"] == flops["mixed/out"] == 2 * 16 * 8 * 8  # 16 positions


def test_a_loop_counts_what_its_layers_hold():
    rows = {row.path: (row.trainable, row.flops) for row in models.layer_table(Repeated(), SHAPE)}
    assert rows["repeated"] == (3 * (4 * 4 + 4), 2 * 3 * 4 * 4)
