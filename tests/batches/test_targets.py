"""Soft targets against Keras, by properties, and over two devices."""

import functools

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

from flaxlab.batches.augment import scale_pixels
from flaxlab.batches.targets import soft_targets
from flaxlab.training.experiment import assemble
from flaxlab.training.penalty import penalty
from flaxlab.training.state import create_state
from flaxlab.training.step import make_train_step
from tests.helpers.runs import small_config, small_dataset

KEY = jax.random.key(3)
LABELS = jnp.array([0, 2, 1, 2, 0, 1, 1, 2])
IMAGES = jax.random.uniform(KEY, (8, 4, 4, 1))


def test_smoothed_labels_give_the_loss_of_keras():
    images, targets = soft_targets(KEY, IMAGES, LABELS, num_classes=3, label_smoothing=0.1)
    assert images is IMAGES
    logits = jax.random.normal(KEY, (8, 3))
    reference = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    expected = reference(jax.nn.one_hot(LABELS, 3), logits)
    found = optax.softmax_cross_entropy(logits, targets).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_mixed_images_and_labels_have_the_same_shares():
    images, targets = soft_targets(KEY, IMAGES, LABELS, num_classes=3, mixup=0.4)
    one_hot = np.eye(3)[LABELS]
    # Where an image and the one before it differ in class, the target says the share.
    shares = (targets * one_hot).sum(1)[np.asarray(LABELS) != np.roll(LABELS, 1)]
    own = float(shares[0])
    np.testing.assert_allclose(shares, own, rtol=1e-6)
    assert 0.5 <= own < 1
    expected = own * IMAGES + (1 - own) * np.roll(IMAGES, 1, axis=0)
    np.testing.assert_allclose(images, expected, atol=1e-6)
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)


def test_the_shares_of_mixup_are_those_of_a_beta_distribution():
    def own(key):
        _, targets = soft_targets(key, IMAGES, LABELS, num_classes=3, mixup=0.4)
        return targets[0, 0]

    found = jax.vmap(own)(jax.random.split(KEY, 4000))
    drawn = np.random.default_rng(0).beta(0.4, 0.4, 100_000)
    expected = np.maximum(drawn, 1 - drawn)
    assert np.mean(found) == pytest.approx(expected.mean(), abs=0.01)
    assert np.std(found) == pytest.approx(expected.std(), abs=0.01)


def test_two_devices_mix_as_one_does():
    soften = functools.partial(soft_targets, KEY, num_classes=3, label_smoothing=0.1, mixup=0.4)
    whole = soften(IMAGES, LABELS)
    halves = jax.vmap(functools.partial(soften, axis_name="batch"), axis_name="batch")(
        IMAGES.reshape(2, 4, 4, 4, 1), LABELS.reshape(2, 4)
    )
    for ours, expected in zip(halves, whole, strict=True):
        np.testing.assert_allclose(ours.reshape(expected.shape), expected, rtol=1e-6)


def test_a_step_learns_the_targets_and_reports_the_labels():
    """Its gradient is that of the written-out loss, its metrics those of the plain labels."""
    fields = {"loss.label_smoothing": 0.2, "data.augment.mixup": 1.0, "loss.l2": 0.01}
    fields |= {"model.norm": "none", "model.block_dropout": (), "model.head_dropout": ()}
    config = small_config(**fields)
    experiment = assemble(config, small_dataset())
    rate = optax.sgd(1.0)
    step = make_train_step(
        experiment.model,
        rate,
        functools.partial(scale_pixels, scaling="unit"),
        functools.partial(penalty, l1=0.0, l2=0.01),
        soften=functools.partial(soft_targets, num_classes=3, label_smoothing=0.2, mixup=1.0),
    )
    state = create_state(experiment.model, rate, (8, 8, 1), seed=0)
    images = np.asarray(small_dataset().train.images[:8])
    mask = np.arange(8) < 7
    batch = {"image": images, "label": LABELS, "mask": mask}
    following, metrics = jax.jit(step)(state, batch)
    key = jax.random.fold_in(state.key, 0)
    mixed, targets = soft_targets(
        key, images / 255.0, LABELS, num_classes=3, label_smoothing=0.2, mixup=1.0
    )

    def loss(params):
        logits = experiment.model.apply({"params": params}, mixed, train=False)
        losses = -(targets * jax.nn.log_softmax(logits)).sum(1)
        return losses[:7].mean() + penalty(params, 0.0, 0.01), logits

    (_, logits), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
    expected = jax.tree.map(lambda x, g: x - g, state.params, gradients)
    for ours, theirs in zip(
        jax.tree.leaves(following.params), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert int(metrics.correct) == int((logits.argmax(1) == LABELS)[:7].sum())


def test_what_the_config_asks_for_is_in_the_step():
    plain = assemble(small_config(), small_dataset())
    soft = assemble(small_config(**{"loss.label_smoothing": 0.1}), small_dataset())
    batch = {
        "image": small_dataset().train.images[:8],
        "label": LABELS,
        "mask": np.ones(8, bool),
    }
    jaxprs = [
        str(jax.make_jaxpr(each.train_step)(each.create_state(), batch)) for each in (plain, soft)
    ]
    assert jaxprs[0] != jaxprs[1]
