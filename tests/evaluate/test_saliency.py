"""Gradient, SmoothGrad and Grad-CAM against NumPy, finite differences and cases by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxlab.errors import UsageError
from flaxlab.pages import image_plots
from flaxlab.predict import __main__ as predict
from flaxlab.predict import command
from flaxlab.predict.saliency import METHODS, explain, grad_cam, saliency, smoothgrad
from flaxlab.run.load import StoredModel
from tests.helpers.refusals import refused
from tests.helpers.runs import small_config

SHAPE = (6, 5, 3)
CLASSES = 4
IMAGE = np.random.default_rng(3).integers(0, 256, SHAPE).astype(np.uint8)


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(CLASSES, name="output")(images.reshape(len(images), -1))


class Cubic(Linear):
    """The logit of a class is the sum of weight * pixel**3, whose slope is no straight line."""

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(CLASSES, name="output")(images.reshape(len(images), -1) ** 3)


class Maps(nn.Module):
    """One convolution, the mean over the positions, and a dense layer, as Zhou et al. have it."""

    stride: int = 1

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(7, (3, 3), strides=self.stride, name="conv")(images)
        return nn.Dense(CLASSES, name="output")(x.mean(axis=(1, 2)))


class Paired(nn.Module):
    """The same with a module around the convolution that returns the image as well."""

    @nn.compact
    def __call__(self, images, *, train):
        class Pair(nn.Module):
            @nn.compact
            def __call__(self, x):
                return nn.Conv(7, (3, 3), name="conv")(x), x

        x, _ = Pair(name="pair")(images)
        return nn.Dense(CLASSES, name="output")(x.mean(axis=(1, 2)))


def stored(model, flips=False):
    """A model with its initial variables, as if a run had stored them."""
    config = small_config(**{"data.image_shape": SHAPE, "data.test_flips": flips})
    variables = model.init(jax.random.key(1), jnp.zeros((1, *SHAPE)), train=False)
    variables = jax.tree.map(np.asarray, variables)
    names = tuple(f"class {label}" for label in range(CLASSES))
    return StoredModel(model, variables, config, names, saved=None, epoch=1)


def kernel_of(model, label):
    return model.variables["params"]["output"]["kernel"][:, label].reshape(SHAPE)


def class_activation_map(model, image, label):
    """The feature maps weighted by the output layer, by loops over a padded image."""
    params = model.variables["params"]
    kernel, bias = params["conv"]["kernel"], params["conv"]["bias"]
    padded = np.pad(image / 255, ((1, 1), (1, 1), (0, 0)))
    height, width, _ = SHAPE
    maps = np.array(
        [
            [
                np.tensordot(padded[row : row + 3, column : column + 3], kernel, 3) + bias
                for column in range(width)
            ]
            for row in range(height)
        ]
    )
    weighted = maps @ params["output"]["kernel"][:, label] / (height * width)
    return np.maximum(weighted, 0)


def test_the_maps_of_a_linear_network_are_its_weights_with_any_noise():
    model = stored(Linear())
    expected = np.abs(kernel_of(model, 2)).max(axis=-1)
    np.testing.assert_allclose(saliency(model, IMAGE, 2), expected, rtol=1e-5)
    for noise in (0.0, 0.5):
        found = smoothgrad(model, IMAGE, 2, noise, samples=25)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_without_noise_smoothgrad_is_the_slope_by_finite_differences():
    model = stored(Cubic())
    step = 1e-4
    weights, x = kernel_of(model, 1).astype(np.float64), IMAGE / 255
    slopes = (weights * (x + step) ** 3 - weights * (x - step) ** 3) / (2 * step)
    found = smoothgrad(model, IMAGE, 1, noise=0.0)
    np.testing.assert_allclose(found, np.abs(slopes).max(axis=-1), rtol=1e-4, atol=1e-6)


def test_smoothgrad_is_the_slope_of_the_smoothed_logit():
    """The mean slope 3 w x**2 over Gaussian noise of deviation s is 3 w (x**2 + s**2)."""
    model = stored(Cubic())
    image = np.full(SHAPE, 51, np.uint8)  # 0.2
    image[0, 0] = (0, 0, 255)  # the range of values is 1
    noise, samples = 0.3, 4000
    found = smoothgrad(model, image, 0, noise, samples)
    x = image / 255
    weights = 3 * np.abs(kernel_of(model, 0))
    expected = (weights * (x**2 + noise**2)).max(axis=-1)
    # Variance of (x + e)**2: 4 x**2 s**2 + 2 s**4.
    error = weights.max() * np.sqrt((4 * 0.2**2 * noise**2 + 2 * noise**4) / samples)
    np.testing.assert_allclose(found[1:], expected[1:], atol=5 * error)
    assert np.abs(saliency(model, image, 0) - expected)[1:].max() > 10 * error


def test_smoothgrad_is_the_same_each_time():
    model = stored(Cubic())
    np.testing.assert_array_equal(smoothgrad(model, IMAGE, 0), smoothgrad(model, IMAGE, 0))


def test_grad_cam_is_the_class_activation_map_where_that_is_defined():
    model = stored(Maps())
    for label in range(CLASSES):
        expected = class_activation_map(model, IMAGE, label)
        np.testing.assert_allclose(grad_cam(model, IMAGE, label), expected, atol=1e-6)
    assert expected.max() > 1e-4


def test_grad_cam_of_an_image_and_its_mirror_is_the_mean_of_both():
    model = stored(Maps(), flips=True)
    expected = (
        class_activation_map(model, IMAGE, 0)
        + class_activation_map(model, IMAGE[:, ::-1], 0)[:, ::-1]
    ) / 2
    np.testing.assert_allclose(grad_cam(model, IMAGE, 0), expected, atol=1e-6)


def test_small_maps_are_brought_to_the_size_of_the_image_and_say_theirs():
    found = explain(stored(Maps(stride=2)), IMAGE, 0, "grad_cam")
    assert found.strength.shape == SHAPE[:2]
    assert found.title == "Grad-CAM at conv, 3 x 3"


def test_a_network_without_maps_is_refused_in_one_line():
    with pytest.raises(UsageError, match=r"feature maps.*--method=smoothgrad"):
        command.predict(stored(Linear()), [], 1, False, "table", None, "grad_cam")


def test_a_method_without_a_folder_is_refused_in_one_line(capsys):
    error = refused(predict.main, ["run", "a.png", "--method=smoothgrad"], capsys)
    assert "add --explain=DIR" in error


def test_the_command_offers_every_method(capsys):
    with pytest.raises(SystemExit):
        predict.main(["--help"])
    assert f"{{{','.join(METHODS)}}}" in capsys.readouterr().out


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_map_is_laid_over_its_image_with_a_scale(method, channels):
    found = explain(stored(Maps()), IMAGE, 0, method)
    figure = image_plots.saliency(IMAGE[..., :channels], "$name", *found)
    _, over, bar = figure.axes
    below, above = over.images
    assert below.get_array().shape == above.get_array().shape == SHAPE[:2]
    assert above.get_clim() == (0, pytest.approx(found.strength.max()))
    assert bar.get_ylabel() == found.unit
    assert "no proof" in figure.get_supxlabel()


def test_grad_cam_takes_the_last_single_array():
    paired, plain = stored(Paired()), stored(Maps())
    params = paired.variables["params"]
    plain.variables["params"] = {"conv": params["pair"]["conv"], "output": params["output"]}
    np.testing.assert_allclose(grad_cam(paired, IMAGE, 2), grad_cam(plain, IMAGE, 2), rtol=1e-5)
