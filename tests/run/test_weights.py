"""What is read off the weights of a network for its page."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxlab.models.summary import layer_table
from flaxlab.pages import image_plots
from flaxlab.run.weights import Spread, first_kernel, normalizations

SHAPE = (8, 8, 3)


class Network(nn.Module):
    """Its layers are called against the order of the alphabet."""

    convolutions: bool = True

    @nn.compact
    def __call__(self, images, train):
        x = images
        if self.convolutions:
            x = nn.Conv(4, (3, 3), name="z_first")(x)
            x = nn.GroupNorm(2, name="y_group")(x)
            x = nn.Conv(4, (3, 3), name="a_second")(x)
            x = nn.BatchNorm(not train, use_scale=True, name="b_batch")(x)
            x = nn.BatchNorm(not train, use_scale=False, name="c_without_scale")(x)
        return nn.Dense(2, name="output")(x.reshape(len(x), -1))


def made(**fields):
    model = Network(**fields)
    variables = model.init(jax.random.key(0), jnp.zeros((1, *SHAPE)), train=False)
    return layer_table(model, SHAPE), variables


def test_the_first_convolution_is_the_one_that_is_called_first():
    layers, variables = made()
    path, kernel = first_kernel(layers, variables)
    assert path == "z_first"
    np.testing.assert_array_equal(kernel, variables["params"]["z_first"]["kernel"])


def test_each_normalization_with_a_scale_has_a_row_and_running_statistics_if_it_keeps_any():
    layers, variables = made()
    variables["params"]["b_batch"]["scale"] = jnp.array([1.0, 2.0, 3.0, 6.0])
    variables["batch_stats"]["b_batch"]["var"] = jnp.array([0.5, 0.5, 1.0, 2.0])
    group, batch = normalizations(layers, variables)
    assert (group.path, group.features, group.scale) == ("y_group", 4, Spread(1, 1, 1))
    assert (group.mean, group.var) == (None, None)
    assert (batch.path, batch.scale) == ("b_batch", Spread(3, 1, 6))
    assert (batch.mean, batch.var) == (Spread(0, 0, 0), Spread(1, 0.5, 2))


def test_a_network_without_either_has_nothing_to_show():
    layers, variables = made(convolutions=False)
    assert first_kernel(layers, variables) is None
    assert normalizations(layers, variables) == []


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_filters_are_drawn_with_zero_in_grey_and_the_largest_weight_at_an_end(channels):
    kernel = np.zeros((3, 3, channels, 14))
    kernel[0, 0, :, 0], kernel[2, 1, :, 13] = 2.0, -1.0
    (axes,) = image_plots.filters(kernel, "conv").axes
    sheet = np.asarray(axes.images[0].get_array())
    assert sheet.shape[:2] == (7, 47)  # two rows of at most twelve, a pixel between filters
    assert np.all(sheet[0, 0] == 255)
    assert np.all(sheet[6, 5] == 64)  # the second of the second row: half way to black
    assert np.all(sheet[1, 1] == 128)
    assert np.all(sheet[:, 3] == 255)
