"""Everything that computes a stored model has the precision of its training."""

from dataclasses import replace

import flax.linen as nn
import jax
import numpy as np
import pytest

from flaxlab import config as configs
from flaxlab.data.load import load_dataset
from flaxlab.evaluate.evaluation import KINDS, evaluate_stored
from flaxlab.predict.prediction import predict_images
from flaxlab.predict.saliency import METHODS, explain
from flaxlab.run.load import load_stored


@pytest.fixture(scope="module")
def precise(stored_run):
    stored = load_stored(stored_run)
    config = configs.replaced(stored.config, train={"matmul_precision": "float32"})
    return replace(stored, config=config)


def precisions_of_layers(call):
    """Calls, and returns the precisions with which layers were traced in it."""
    found = set()

    def note(call, args, kwargs, context):
        # At its initialization, a network is only asked for shapes.
        if isinstance(context.module, nn.Dense | nn.Conv) and not context.module.is_initializing():
            found.add(jax.config.jax_default_matmul_precision)
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        call()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_scores(precise, kind):
    data = load_dataset(precise.config.data)
    split = data.test.take(np.arange(12))
    found = precisions_of_layers(lambda: evaluate_stored(precise, split, split, kind))
    assert found == {"float32"}


def test_predictions(precise):
    images = load_dataset(precise.config.data).test.images[:2]
    assert precisions_of_layers(lambda: predict_images(precise, images)) == {"float32"}


@pytest.mark.parametrize("method", METHODS)
def test_explanations(precise, method):
    image = load_dataset(precise.config.data).test.images[0]
    found = precisions_of_layers(lambda: explain(precise, image, 3, method))
    assert found == {"float32"}
