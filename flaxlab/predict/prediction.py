"""Classifies pictures of any size with a stored model."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flaxlab.batches.augment import scale_pixels
from flaxlab.batches.devices import one_device
from flaxlab.batches.feed import Feed
from flaxlab.data.dataset import Split
from flaxlab.data.images import read_image
from flaxlab.kernels.precision import with_precision
from flaxlab.run.load import StoredModel, eval_state
from flaxlab.scores import probabilities
from flaxlab.training.loop import score
from flaxlab.training.programs import compile_evaluation
from flaxlab.training.step import make_eval_step

_BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """A model's classification of a picture.

    Attributes:
        path: path of the picture.
        image: the model's input, uint8 (H, W, C).
        probabilities: probability of each class.
        order: the classes, most probable first.
    """

    path: Path
    image: np.ndarray
    probabilities: list[float]
    order: list[int]


def predict_files(
    stored: StoredModel, paths: Sequence[Path], invert: bool = False
) -> list[Prediction]:
    """Classifies pictures.

    Args:
        stored: the model.
        paths: PNG or JPEG files; `flaxlab.data.images.fit_image` says how they are brought to
            the model's input.
        invert: invert the pixels, for photographs on white if the model was trained on black.

    Raises:
        UsageError: a file is not a picture.
    """
    shape = tuple(stored.config.data.image_shape)
    images = np.stack([read_image(path, shape) for path in paths])
    if invert:
        images = 255 - images
    return [
        Prediction(path, image, row.tolist(), np.argsort(-row, kind="stable").tolist())
        for path, image, row in zip(paths, images, predict_images(stored, images), strict=True)
    ]


def predict_images(stored: StoredModel, images: np.ndarray) -> np.ndarray:
    """Returns the probability of each class, float32 (N, classes).

    Args:
        stored: the model.
        images: uint8 (N, H, W, C), of the shape that the model takes.
    """
    preprocess = functools.partial(scale_pixels, scaling=stored.config.data.scaling)
    devices = one_device()
    step = with_precision(
        make_eval_step(stored.model, preprocess, stored.config.data.test_flips),
        stored.config.train.matmul_precision,
    )
    evaluate = compile_evaluation(step, devices)
    unlabelled = Split(images, np.zeros(len(images), np.int32))
    state = devices.put(eval_state(stored.variables))
    found = score(evaluate, state, Feed(unlabelled, _BATCH, 1, devices, {}))
    return probabilities(found.logits)
