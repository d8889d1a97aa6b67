"""Scores and predictions by the mean of an image and its mirror image."""

import json

import numpy as np
import pytest
from jax import export
from PIL import Image
from safetensors.numpy import load_file

from flaxlab.batches.augment import scale_pixels
from flaxlab.data.dataset import Split
from flaxlab.evaluate.evaluation import evaluate_stored
from flaxlab.export.export import export_model
from flaxlab.predict.prediction import predict_files
from flaxlab.predict.saliency import saliency
from flaxlab.run.load import load_stored
from tests.helpers.runs import run_small, small_dataset


@pytest.fixture(scope="module")
def flipping(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flips")
    result = run_small(folder, **{"data.test_flips": True, "optimizer.learning_rate": 0.01})
    return result, load_stored(folder)


def logits_of(stored, images):
    scaled = scale_pixels(images, "unit")
    return np.asarray(stored.model.apply(stored.variables, scaled, train=False))


def expected_logits(stored, images):
    """The mean over both, with the mirror made by NumPy."""
    return (logits_of(stored, images) + logits_of(stored, images[:, :, ::-1])) / 2


def test_a_run_is_scored_by_both(flipping):
    result, stored = flipping
    images = small_dataset().test.images
    np.testing.assert_allclose(
        result.test_scores.logits, expected_logits(stored, images), atol=1e-5
    )
    assert np.abs(result.test_scores.logits - logits_of(stored, images)).max() > 1e-3
    assert result.test_scores.accuracy == result.history[-1].val_accuracy


@pytest.mark.parametrize("kind", ["running", "batch", "recomputed"])
def test_evaluation_does_not_tell_an_image_from_its_mirror(flipping, kind):
    _, stored = flipping
    data = small_dataset()
    mirrored = Split(data.test.images[:, :, ::-1], data.test.labels)
    losses = [
        [
            evaluate_stored(stored, split, data.train, kind, 10, flips).loss
            for flips in (True, False)
        ]
        for split in (data.test, mirrored)
    ]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert abs(losses[0][1] - losses[1][1]) > 1e-4


def test_predictions_saliency_and_the_export_are_of_both(flipping, tmp_path):
    _, stored = flipping
    image = small_dataset().test.images[0]
    Image.fromarray(image[..., 0]).save(tmp_path / "a.png")
    Image.fromarray(image[:, ::-1, 0]).save(tmp_path / "b.png")
    first, second = predict_files(stored, [tmp_path / "a.png", tmp_path / "b.png"])
    expected = np.exp(expected_logits(stored, image[None])[0])
    np.testing.assert_allclose(first.probabilities, expected / expected.sum(), atol=1e-5)
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=1e-6)
    there, mirrored = (saliency(stored, each, 1) for each in (image, image[:, ::-1]))
    np.testing.assert_allclose(there, mirrored[:, ::-1], atol=1e-5)
    export_model(stored, tmp_path / "exported")
    function = export.deserialize(bytearray((tmp_path / "exported/model.bin").read_bytes()))
    weights = load_file(tmp_path / "exported/weights.safetensors")
    images = small_dataset().test.images
    np.testing.assert_allclose(
        function.call(weights, images), expected_logits(stored, images), atol=1e-5
    )
    assert json.loads((tmp_path / "exported/export.json").read_text())["test_flips"] is True
