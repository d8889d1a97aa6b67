"""The pure steps: what they compute, and that every transformation of them computes the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxlab import models
from flaxlab.batches.augment import scale_pixels
from flaxlab.batches.order import train_batches
from flaxlab.batches.pmap import shard_batches
from flaxlab.training.experiment import assemble
from flaxlab.training.metrics import NEVER, means, no_metrics
from flaxlab.training.penalty import penalised_kernels, penalty
from flaxlab.training.state import create_state
from flaxlab.training.step import make_train_step
from tests.helpers.comparing import assert_close
from tests.helpers.runs import small_config, small_dataset

STEPS = 4


@pytest.fixture(scope="module")
def experiment():
    # Plain SGD: where a gradient is zero but for rounding, Adam takes a whole step of it.
    overrides = {
        "loss.l2": 0.01,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.01,
        "optimizer.momentum": 0.0,
    }
    config = small_config(**overrides)
    return assemble(config, small_dataset(train=STEPS * 8))


@pytest.fixture(scope="module")
def batches(experiment):
    return list(train_batches(experiment.splits.train, 8, seed=0, epoch=1))


@pytest.fixture(scope="module")
def one_by_one(experiment, batches):
    step = jax.jit(experiment.train_step)
    state, totals = experiment.create_state(), no_metrics()
    for batch in batches:
        state, metrics = step(state, batch)
        totals += metrics
    return state, totals


def test_a_step_changes_what_it_should(experiment, batches):
    before = experiment.create_state()
    after, metrics = jax.jit(experiment.train_step)(before, batches[0])
    assert int(after.step) == 1
    assert int(metrics.count) == 8
    for tree in ("params", "batch_stats", "opt_state"):
        old, new = jax.tree.leaves(getattr(before, tree)), jax.tree.leaves(getattr(after, tree))
        assert all(np.any(a != b) for a, b in zip(old, new, strict=True)), tree
    assert (jax.random.key_data(after.key) == jax.random.key_data(before.key)).all()


def test_a_step_is_a_function_of_its_arguments(experiment, batches):
    state = experiment.create_state()
    first, second = (jax.jit(experiment.train_step)(state, batches[0]) for _ in range(2))
    assert_close(first, second, atol=0)


def test_dropout_differs_from_step_to_step(experiment, batches):
    state = experiment.create_state()
    step = jax.jit(experiment.train_step)
    _, first = step(state, batches[0])
    _, second = step(state.replace(step=state.step + 1), batches[0])
    assert float(first.loss) != float(second.loss)


def test_scan_equals_a_loop(experiment, batches, one_by_one):
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
    state, metrics = jax.jit(
        lambda state, stacked: jax.lax.scan(experiment.train_step, state, stacked)
    )(experiment.create_state(), stacked)
    assert_close(state, one_by_one[0])
    assert_close(metrics.loss.sum(), one_by_one[1].loss, atol=1e-4)


def test_vmap_over_seeds_equals_each_seed(experiment, batches):
    shape = experiment.dataset.image_shape
    states = [
        create_state(experiment.model, experiment.optimizer, shape, seed) for seed in range(3)
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    together, _ = jax.jit(jax.vmap(experiment.train_step, in_axes=(0, None)))(stacked, batches[0])
    step = jax.jit(experiment.train_step)
    for seed, state in enumerate(states):
        alone, _ = step(state, batches[0])
        assert_close(jax.tree.map(lambda x, s=seed: x[s], together), alone)


def without_dropout(axis_name=None):
    """Network and step whose masks do not depend on how a batch is cut."""
    config = small_config(**{"model.block_dropout": (), "model.head_dropout": (), "loss.l2": 0.01})
    model = models.build(config.model, 3, axis_name)
    optimizer = optax.sgd(0.01)
    preprocess = functools.partial(scale_pixels, scaling="unit")
    penalize = functools.partial(penalty, l1=0.0, l2=0.01)
    step = make_train_step(model, optimizer, preprocess, penalize, axis_name)
    return step, create_state(model, optimizer, (8, 8, 1), seed=0)


def uneven(batches):
    """The batches with a last one of which only three examples count."""
    mask = np.arange(8) < 3
    return [*batches[:-1], {**batches[-1], "mask": mask}]


def test_pmap_over_two_devices_equals_one(batches):
    devices = jax.local_devices()[:2]
    step, state = without_dropout()
    mapped_step, _ = without_dropout("batch")
    spread = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    run = jax.pmap(mapped_step, axis_name="batch", devices=devices)
    alone = jax.jit(step)
    for batch, sharded in zip(uneven(batches), shard_batches(uneven(batches), 2), strict=True):
        spread, mapped_metrics = run(spread, sharded)
        state, metrics = alone(state, batch)
        assert_close(jax.tree.map(lambda x: x[0], mapped_metrics), metrics, atol=1e-5)
    for device in range(2):
        assert_close(jax.tree.map(lambda x, d=device: x[d], spread), state)


def test_pmap_draws_another_mask_on_each_device(experiment, batches):
    model = models.build(experiment.config.model, 3, "batch")
    step = make_train_step(
        model, optax.sgd(0.1), lambda images: images / 255.0, lambda params: 0.0, "batch"
    )
    state = create_state(model, optax.sgd(0.1), (8, 8, 1), seed=0)
    spread = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    half = {key: np.concatenate([x[:4], x[:4]]) for key, x in batches[0].items()}
    alone = {**half, "mask": np.arange(8) < 4}
    run = jax.pmap(step, axis_name="batch", devices=jax.local_devices()[:2])
    (_, both), (_, one) = (run(spread, batch) for batch in shard_batches([half, alone], 2))
    # Were the masks the same, both halves would have the same loss.
    assert float(both.loss[0]) != pytest.approx(2 * float(one.loss[0]), rel=1e-4)


def test_sharded_over_two_devices_equals_one(experiment, batches, one_by_one):
    mesh = Mesh(np.array(jax.local_devices()[:2]), ("data",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec("data"))
    state = jax.device_put(experiment.create_state(), everywhere)
    step = jax.jit(experiment.train_step)
    for batch in batches:
        state, _ = step(state, jax.device_put(batch, split))
    # Dropout included: a mask is drawn for the global batch, whatever its layout.
    assert_close(state, one_by_one[0])


def test_masked_examples_count_for_nothing(batches):
    config = small_config(
        **{"model.norm": "none", "model.block_dropout": (), "model.head_dropout": ()}
    )
    model = models.build(config.model, 3)
    optimizer = optax.sgd(0.01)
    step = jax.jit(
        make_train_step(model, optimizer, lambda images: images / 255.0, lambda params: 0.0)
    )
    state = create_state(model, optimizer, (8, 8, 1), seed=0)
    masked = {**batches[0], "mask": np.arange(8) < 3}
    alone = {key: x[:3] for key, x in masked.items()}
    got, metrics = step(state, masked)
    expected, expected_metrics = step(state, alone)
    assert_close(got.params, expected.params)
    assert means(metrics) == pytest.approx(means(expected_metrics), rel=1e-5)
    assert int(metrics.count) == 3


def test_penalty_by_hand():
    params = {
        "block1": {"conv1": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([9.0])}},
        "head1": {"dense": {"kernel": jnp.array([3.0])}, "norm": {"scale": jnp.array([9.0])}},
        "output": {"kernel": jnp.array([9.0])},
    }
    assert list(penalised_kernels(params)) == ["block1/conv1/kernel", "head1/dense/kernel"]
    assert float(penalty(params, l1=0.5, l2=0.01)) == pytest.approx(0.5 * 6 + 0.01 * 14)
    assert float(penalty(params, 0.0, 0.0)) == 0.0


def test_the_first_nonfinite_step_is_named(experiment, batches):
    step = jax.jit(experiment.train_step)
    state, totals = step(experiment.create_state(), batches[0])
    assert totals.nonfinite_step == NEVER
    broken = state.replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, state.params))
    for batch in batches[1:3]:
        broken, metrics = step(broken, batch)
        totals += metrics
    assert totals.nonfinite_step == 1


def test_bfloat16_computes_near_float32(batches):
    logits = {}
    for dtype in ("float32", "bfloat16"):
        model = models.build(small_config(**{"model.dtype": dtype}).model, 3)
        state = create_state(model, optax.sgd(0.1), (8, 8, 1), seed=0)
        assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        logits[dtype] = model.apply(variables, batches[0]["image"] / 255.0, train=False)
    assert logits["bfloat16"].dtype == jnp.float32
    difference = jnp.abs(logits["bfloat16"] - logits["float32"]).max()
    assert 0 < float(difference) < 0.03 * float(jnp.abs(logits["float32"]).max())
