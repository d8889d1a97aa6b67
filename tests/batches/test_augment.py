"""Random changes of images on the device, against NumPy."""

import jax
import numpy as np
import pytest

from flaxlab.batches.augment import augment, example_keys
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble
from tests.helpers.comparing import assert_close
from tests.helpers.runs import SGD, small_config, small_dataset

COUNT, SHAPE = 200, (6, 5, 3)


@pytest.fixture(scope="module")
def images():
    # No zeros, and no two pixels of an image alike.
    pixels = np.random.default_rng(0).permuted(np.tile(np.arange(1, 91), (COUNT, 1)), axis=1)
    return pixels.reshape(COUNT, *SHAPE).astype(np.uint8)


def keys(count=COUNT, seed=0):
    return example_keys(jax.random.key(seed), count)


def test_a_flip_mirrors_half_of_the_images(images):
    changed = np.asarray(augment(keys(), images, flip=True))
    mirrored = [np.array_equal(new, old[:, ::-1]) for new, old in zip(changed, images, strict=True)]
    kept = [np.array_equal(new, old) for new, old in zip(changed, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 70 < sum(mirrored) < 130  # 200 coins: beyond four standard deviations otherwise


def test_a_crop_is_a_window_of_the_padded_image(images):
    changed = np.asarray(augment(keys(), images, pad_and_crop=2))
    places = []
    for new, old in zip(changed, images, strict=True):
        padded = np.pad(old, ((2, 2), (2, 2), (0, 0)))
        windows = {
            (top, left): padded[top : top + 6, left : left + 5]
            for top in range(5)
            for left in range(5)
        }
        (place,) = (p for p, window in windows.items() if np.array_equal(window, new))
        places.append(place)
    assert len(set(places)) == 25


def test_a_cutout_zeroes_one_square(images):
    changed = np.asarray(augment(keys(), images, cutout=3))
    centres = set()
    for new, old in zip(changed, images, strict=True):
        zero = (new == 0).all(-1)
        assert np.array_equal(new[~zero], old[~zero])
        rows, columns = np.flatnonzero(zero.any(1)), np.flatnonzero(zero.any(0))
        assert zero[np.ix_(rows, columns)].all()
        assert zero.sum() == len(rows) * len(columns)
        assert 2 <= len(rows) <= 3  # two where the square lies outside in part
        assert 2 <= len(columns) <= 3
        centres.add((rows[0], len(rows), columns[0], len(columns)))
    assert len(centres) == 6 * 5  # every pixel is a centre of some


def test_what_is_off_changes_nothing(images):
    np.testing.assert_array_equal(augment(keys(), images), images)


def test_changes_differ_from_example_to_example_and_from_step_to_step(images):
    same = np.broadcast_to(images[0], images.shape)
    first = np.asarray(augment(keys(), same, pad_and_crop=2, flip=True))
    other = np.asarray(augment(keys(seed=1), same, pad_and_crop=2, flip=True))
    assert len({image.tobytes() for image in first}) > 30
    assert not np.array_equal(first, other)


def test_an_example_is_changed_in_the_same_way_wherever_the_batch_is_cut(images):
    options = {"pad_and_crop": 2, "flip": True, "cutout": 2}
    whole = augment(keys(), images, **options)
    half = augment(keys()[100:], images[100:], **options)
    np.testing.assert_array_equal(half, whole[100:])


@pytest.mark.parametrize(("parallel", "devices"), [("sharded", 2), ("pmap", 2)])
def test_several_devices_change_the_images_as_one_does(tmp_path, parallel, devices):
    changes = {"data.augment.flip": True, "data.augment.pad_and_crop": 1, "data.augment.cutout": 2}

    def run(name, **overrides):
        config = small_config(**{**SGD, **changes, "train.epochs": 2, **overrides})
        return train(assemble(config, small_dataset()), tmp_path / name).state

    spread = {"train.devices": devices, "train.parallel": parallel}
    assert_close(run("spread", **spread), run("alone"))


def test_changes_are_of_training_alone_and_change_it(tmp_path):
    def run(name, **overrides):
        config = small_config(**{"train.epochs": 1, **overrides})
        return train(assemble(config, small_dataset()), tmp_path / name)

    plain, flipped = run("plain"), run("flipped", **{"data.augment.flip": True})
    assert plain.history[0].train_loss != flipped.history[0].train_loss
    experiment = assemble(small_config(**{"data.augment.flip": True}), small_dataset())
    batch = {
        "image": experiment.splits.validation.images[:4],
        "label": experiment.splits.validation.labels[:4],
        "mask": np.ones(4, bool),
    }
    state = experiment.create_state()
    without = assemble(small_config(), small_dataset())
    np.testing.assert_array_equal(
        experiment.eval_step(state, batch)[1], without.eval_step(state, batch)[1]
    )
