"""The images of a report that show what training makes of them."""

import contextlib

import numpy as np
import pytest

from flaxlab.run.augmented import augmented_images
from flaxlab.training.experiment import assemble
from tests.helpers.runs import small_config, small_dataset


def images_of(**fields):
    config = small_config(**{f"data.augment.{key}": value for key, value in fields.items()})
    experiment = assemble(config, small_dataset())
    found = augmented_images(experiment)
    assert found is not None
    known = {image.tobytes() for image in experiment.splits.train.images}
    assert {image.tobytes() for image in found[0]} <= known
    assert found[0].shape == found[1].shape == (10, 8, 8, 1)
    assert found[1].dtype == np.uint8
    return found


def test_without_augmentation_there_are_none():
    assert augmented_images(assemble(small_config(), small_dataset())) is None


def test_each_image_is_mirrored_or_as_it_was():
    stored, trained = images_of(flip=True)
    kept = (stored == trained).all(axis=(1, 2, 3))
    mirrored = (stored[:, :, ::-1] == trained).all(axis=(1, 2, 3))
    assert (kept != mirrored).all()
    assert 0 < mirrored.sum() < 10


def test_mixed_images_are_of_two_neighbours():
    """One share for all, by least squares, and rounding at most beside it."""
    stored, trained = (images.astype(float) for images in images_of(mixup=1.0))
    before = np.roll(stored, 1, axis=0)
    share = np.vdot(trained - before, stored - before) / np.vdot(stored - before, stored - before)
    assert 0.5 <= share < 0.999
    assert np.abs(share * stored + (1 - share) * before - trained).max() < 1


def test_cropped_images_are_those_that_training_reads_first():
    config = small_config(**{"data.augment.random_resized_crop": 0.3})
    experiment = assemble(config, small_dataset())
    stored, trained = augmented_images(experiment)
    with contextlib.closing(experiment.feeds().train.train_batches(config.seed, 1)) as batches:
        first = np.asarray(next(batches)["image"])[0]
    np.testing.assert_array_equal(trained[: len(first)], first)
    assert (stored != trained).any()


@pytest.mark.parametrize("seed", [0, 1])
def test_they_are_those_of_the_seed(seed):
    fields = {"data.augment.cutout": 3, "seed": seed}
    found = [augmented_images(assemble(small_config(**fields), small_dataset())) for _ in range(2)]
    np.testing.assert_array_equal(found[0], found[1])
