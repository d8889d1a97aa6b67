"""Computes what in an image the logit of a class reacts to: gradient, SmoothGrad and Grad-CAM.

None of them shows why the model decides as it does, or that it is right to. Adebayo et al. (2018),
"Sanity checks for saliency maps", compare such maps with those of networks with random weights.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flaxlab.batches.augment import over_flips, scale_pixels
from flaxlab.errors import UsageError
from flaxlab.kernels.precision import with_precision
from flaxlab.models.summary import trace_modules
from flaxlab.run.load import StoredModel
from flaxlab.training.state import Variables

METHODS = ("gradient", "smoothgrad", "grad_cam")

# Smilkov et al. (2017): maps become smooth with some 50 samples and 10% to 20% of noise.
_SAMPLES, _NOISE = 50, 0.15
_AT_ONCE = 10  # samples


class Explanation(NamedTuple):
    """A map of an image.

    Attributes:
        strength: float32 (H, W), 0 and above.
        title: how it was computed.
        unit: what the strength is in.
        text: what it shows, a sentence without its full stop.
    """

    strength: np.ndarray
    title: str
    unit: str
    text: str


def explain(stored: StoredModel, image: np.ndarray, label: int, method: str) -> Explanation:
    """Returns the map of an image for a class.

    Args:
        stored: the model.
        image: uint8 (H, W, C).
        label: the class.
        method: one of `METHODS`.

    Raises:
        UsageError: "grad_cam", and the network has no feature maps.
    """
    if method == "grad_cam":
        layer, (height, width) = last_feature_maps(stored)
        return Explanation(
            grad_cam(stored, image, label),
            f"Grad-CAM at {layer}, {height} x {width}",
            "weighted activation",
            "Where the last feature maps speak for the class",
        )
    unit = "|change of the logit|"
    text = "How strongly the logit changes with each pixel, near this image"
    if method == "smoothgrad":
        title = f"SmoothGrad, {_SAMPLES} samples, {_NOISE:.0%} noise"
        return Explanation(smoothgrad(stored, image, label), title, unit, text)
    return Explanation(saliency(stored, image, label), "Gradient", unit, text)


def saliency(stored: StoredModel, image: np.ndarray, label: int) -> np.ndarray:
    """Returns how strongly the logit of a class depends on each pixel, float32 (H, W).

    The largest absolute derivative over the channels, as in Simonyan, Vedaldi and Zisserman
    (2013), "Deep inside convolutional networks".

    Args:
        stored: the model.
        image: uint8 (H, W, C).
        label: the class.
    """
    return _strength(_gradients(stored, _scaled(stored, image), label))


def smoothgrad(
    stored: StoredModel,
    image: np.ndarray,
    label: int,
    noise: float = _NOISE,
    samples: int = _SAMPLES,
) -> np.ndarray:
    """Returns the `saliency` of the mean gradient over noisy copies of an image, float32 (H, W).

    Smilkov et al. (2017), "SmoothGrad: removing noise by adding noise". The noise is the same each
    time.

    Args:
        stored: the model.
        image: uint8 (H, W, C).
        label: the class.
        noise: standard deviation of Gaussian noise, as a share of the image's range of values.
        samples: number of noisy copies.
    """
    scaled = _scaled(stored, image)
    deviation = noise * (scaled.max() - scaled.min())
    drawn = jax.random.normal(jax.random.key(0), (samples, *scaled.shape[1:]))
    gradients = [
        _gradients(stored, scaled + deviation * drawn[start : start + _AT_ONCE], label)
        for start in range(0, samples, _AT_ONCE)
    ]
    return _strength(jnp.concatenate(gradients).mean(axis=0, keepdims=True))


def grad_cam(stored: StoredModel, image: np.ndarray, label: int) -> np.ndarray:
    """Returns where the last feature maps speak for a class, float32 (H, W), 0 and above.

    Selvaraju et al. (2017), "Grad-CAM": the feature maps, each weighted by the mean of the logit's
    derivatives by its values, summed, cut off at 0 and resized to the image. Where a mean over the
    positions and a dense layer follow them, that is the class activation map of Zhou et al. (2016)
    over the number of positions. With `config.data.test_flips`, the mean with the map of the
    mirror image.

    Args:
        stored: the model.
        image: uint8 (H, W, C).
        label: the class.

    Raises:
        UsageError: the network has no feature maps.
    """
    layer, shape = _last_maps(stored)

    class_map = with_precision(_class_map, stored.config.train.matmul_precision)

    def compute(images: jax.Array) -> jax.Array:
        return class_map(stored.model, layer, shape, stored.variables, images, label)

    scaled = _scaled(stored, image)
    found = compute(scaled)
    if stored.config.data.test_flips:
        found = (found + compute(scaled[:, :, ::-1])[:, ::-1]) / 2
    return np.asarray(found)


def last_feature_maps(stored: StoredModel) -> tuple[str, tuple[int, int]]:
    """Returns path, height and width of the last feature maps with more than one position.

    Raises:
        UsageError: there are none.
    """
    layer, (height, width, _) = _last_maps(stored)
    return "/".join(layer), (height, width)


def _last_maps(stored: StoredModel) -> tuple[tuple[str, ...], tuple[int, ...]]:
    maps = _feature_maps(stored.model, tuple(stored.config.data.image_shape))
    if not maps:
        raise UsageError(
            f"Grad-CAM needs a network with feature maps, which {stored.config.model.name} does"
            " not have; use --method=smoothgrad"
        )
    return maps[-1]


@functools.lru_cache(maxsize=1)  # pictures are explained one after the other
def _feature_maps(
    model: nn.Module, image_shape: tuple[int, ...]
) -> list[tuple[tuple[str, ...], tuple[int, ...]]]:
    calls, _ = trace_modules(model, image_shape)
    return [
        (path, called.shape)
        for path, called in calls.items()
        if called.single and len(called.shape) == 3 and called.shape[0] * called.shape[1] > 1
    ]


def _scaled(stored: StoredModel, image: np.ndarray) -> jax.Array:
    return scale_pixels(jnp.asarray(image)[None], stored.config.data.scaling)


def _strength(gradients: jax.Array) -> np.ndarray:
    return np.asarray(jnp.max(jnp.abs(gradients[0]), axis=-1))


def _gradients(stored: StoredModel, scaled: jax.Array, label: int) -> jax.Array:
    gradients = with_precision(_gradients_of_logits, stored.config.train.matmul_precision)
    flips = stored.config.data.test_flips
    return gradients(stored.model, flips, stored.variables, scaled, label)


# Both are compiled once per model: images, the class and the variables are arguments.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _gradients_of_logits(
    model: nn.Module, flips: bool, variables: Variables, scaled: jax.Array, label: int
) -> jax.Array:
    compute = over_flips(functools.partial(model.apply, variables, train=False), flips)

    def logits_of_class(scaled: jax.Array) -> jax.Array:
        # Of the sum, since each image's logit depends on that image alone.
        return jnp.sum(compute(scaled)[:, label])

    return jax.grad(logits_of_class)(scaled)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _class_map(
    model: nn.Module,
    layer: tuple[str, ...],
    shape: tuple[int, ...],
    variables: Variables,
    scaled: jax.Array,
    label: int,
) -> jax.Array:
    """Returns the map (H, W) of one image (1, H, W, C) from the output of a layer, of `shape`."""

    def logit(change: jax.Array) -> tuple[jax.Array, jax.Array]:
        maps = []

        def changed(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            output = call(*args, **kwargs)
            if context.module.path == layer and context.method_name == "__call__":
                maps.append(output)
                output = output + change.astype(output.dtype)
            return output

        with nn.intercept_methods(changed):
            logits: Any = model.apply(variables, scaled, train=False)
        return logits[0, label], maps[-1].astype(jnp.float32)

    slopes, maps = jax.grad(logit, has_aux=True)(jnp.zeros((1, *shape)))
    weighted = nn.relu(jnp.sum(maps * jnp.mean(slopes, axis=(1, 2), keepdims=True), axis=-1))
    return jax.image.resize(weighted[0], scaled.shape[1:3], "linear")
