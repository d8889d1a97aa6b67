"""Averages of the parameters: against NumPy, in whole runs, and wherever they are read."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flaxlab import main
from flaxlab.batches.augment import scale_pixels
from flaxlab.batches.order import epoch_order
from flaxlab.checkpoints.read import read_collection
from flaxlab.checkpoints.save import Checkpoints
from flaxlab.config import default_config
from flaxlab.errors import Interrupted
from flaxlab.evaluate import __main__ as evaluate
from flaxlab.evaluate.evaluation import evaluate_stored, recompute_statistics
from flaxlab.run.load import load_stored
from flaxlab.run.resume import find_start
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble
from flaxlab.training.optimizer import (
    AveragedState,
    averaged,
    make_optimizer,
    moving_average,
    schedule_free_average,
)
from flaxlab.training.state import TrainState
from tests.helpers.comparing import assert_close, assert_same_bits, without_times
from tests.helpers.runs import SGD, SMALL_POOL, run_small, small_config, small_dataset, stop_at

EMA = {"train.ema_decay": 0.6, "optimizer.learning_rate": 0.01}
SCHEDULE_FREE = {"optimizer.name": "schedule_free_adamw", "optimizer.learning_rate": 0.01}
NO_DROPOUT = {"model.block_dropout": (), "model.head_dropout": ()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    recipes = {"ema": EMA, "schedule_free": SCHEDULE_FREE}
    folders = {name: tmp_path_factory.mktemp(name) for name in recipes}
    return {name: (folders[name], run_small(folders[name], **recipes[name])) for name in recipes}


def test_the_moving_average_is_that_of_numpy_and_training_does_not_see_it():
    averaging = assemble(small_config(**SGD, **{"train.ema_decay": 0.6}), data())
    plain = assemble(small_config(**SGD), data())
    state, raw = averaging.create_state(), plain.create_state()
    assert not isinstance(raw, AveragedState)
    expected = jax.tree.map(np.asarray, raw.params)
    steps = jax.jit(averaging.train_step), jax.jit(plain.train_step)
    for number, batch in enumerate(itertools.islice(itertools.cycle(batches()), 14), 1):
        (state, _), (raw, _) = (
            step(each, batch) for step, each in zip(steps, (state, raw), strict=True)
        )
        kept = min(0.6, (1 + number) / (10 + number))  # 2/11, 3/12, ..., 13/22, 0.6, 0.6
        expected = jax.tree.map(lambda a, p, k=kept: k * a + (1 - k) * p, expected, raw.params)
    assert_close(state.params, raw.params)
    assert_close(state.batch_stats, raw.batch_stats)
    assert_close(state.average, expected, atol=1e-5)


def data():
    return small_dataset(train=24)


def batches():
    split, mask = data().train, np.ones(8, bool)
    parts = [np.arange(start, start + 8) for start in (0, 8, 16)]
    return [{"image": split.images[i], "label": split.labels[i], "mask": mask} for i in parts]


def test_a_state_without_averages_is_what_it_was():
    state = assemble(small_config(), small_dataset()).create_state()
    fields = {path[0].name for path, _ in jax.tree_util.tree_leaves_with_path(state)}
    assert type(state) is TrainState
    assert fields == {"step", "params", "batch_stats", "opt_state", "key"}
    assert state.scored == {"params": state.params, "batch_stats": state.batch_stats}


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("name", ["schedule_free_sgd", "schedule_free_adamw"])
def test_schedule_free_averages_are_those_of_its_paper(name, clip):
    """Defazio et al. (2024): gradients at y, steps of z, and x, the mean of z, which is scored.

    The weights of the mean are the squares of the largest rate so far; the decay is taken at y.
    """
    config = default_config().optimizer
    config.update({"name": name, "b1": 0.8, "b2": 0.9, "epsilon": 1e-3, "weight_decay": 0.1})
    config.clip_norm = clip
    rate = optax.linear_schedule(0.01, 0.1, 5)
    optimizer = make_optimizer(config, rate)
    x = y = z = start = np.linspace(-1, 2, 7)
    v, weights = np.zeros(7), 0.0
    state = averaged(
        TrainState(
            step=jnp.array(0),
            params={"w": jnp.asarray(start, jnp.float32)},
            batch_stats={},
            opt_state=optimizer.init({"w": jnp.asarray(start, jnp.float32)}),
            key=jax.random.key(0),
        )
    )
    for step in range(20):
        updates, opt_state = optimizer.update(
            {"w": jnp.sin(3 * state.params["w"])}, state.opt_state, state.params
        )
        params = optax.apply_updates(state.params, updates)
        state = schedule_free_average(state.replace(params=params, opt_state=opt_state))
        gradient = np.sin(3 * y)
        if clip:
            gradient *= min(1.0, clip / np.linalg.norm(gradient))
        if name == "schedule_free_adamw":
            v = 0.9 * v + 0.1 * gradient**2
            gradient = gradient / (np.sqrt(v / (1 - 0.9 ** (step + 1))) + 1e-3)
        z = z - float(rate(step)) * (gradient + 0.1 * y)
        weight = float(rate(step + 1)) ** 2  # Optax counts these rates from 1
        weights += weight
        x = x + weight / weights * (z - x)
        y = 0.2 * z + 0.8 * x
        np.testing.assert_allclose(state.params["w"], y, atol=1e-5)
        np.testing.assert_allclose(state.average["w"], x, atol=1e-5)


@pytest.mark.parametrize("recipe", ["ema", "schedule_free"])
def test_what_is_stored_is_what_was_scored(undisturbed, recipe):
    folder, result = undisturbed[recipe]
    stored = load_stored(folder)
    assert_same_bits(stored.variables, jax.device_get(result.state.scored))
    assert not np.array_equal(
        stored.variables["params"]["output"]["kernel"], result.state.params["output"]["kernel"]
    )
    split = small_dataset().test
    found = evaluate_stored(stored, split, small_dataset().train, "running", 8)
    assert (found.loss, found.accuracy) == (
        pytest.approx(result.history[-1].val_loss, rel=1e-5),
        result.history[-1].val_accuracy,
    )
    best = load_stored(folder, "best")
    epoch = best.epoch - 1
    found = evaluate_stored(best, split, small_dataset().train, "running", 8)
    assert found.accuracy == result.history[epoch].val_accuracy
    assert found.loss == pytest.approx(result.history[epoch].val_loss, rel=1e-5)


@pytest.mark.parametrize("recipe", ["ema", "schedule_free"])
def test_the_statistics_are_those_of_the_average(undisturbed, recipe):
    """As `evaluate --batch_stats=recomputed` has them, over whole batches of training examples."""
    _, result = undisturbed[recipe]
    experiment = assemble(small_config(), small_dataset())
    examples = experiment.splits.train.take(epoch_order(21, 0, 0)[:16])

    def statistics(params):
        given = {"params": params, "batch_stats": result.state.batch_stats}
        order = np.random.default_rng(0).permutation(16)  # `recompute_statistics` takes it first
        shuffled = examples.take(np.argsort(order))
        return recompute_statistics(experiment.model, given, shuffled, "unit", 8)

    assert_close(result.state.average_stats, statistics(result.state.average), atol=1e-5)
    distant = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()),
        result.state.average_stats,
        statistics(result.state.params),
    )
    assert max(jax.tree.leaves(distant)) > 1e-3


@pytest.mark.parametrize(("recipe", "overrides"), [("ema", EMA), ("schedule_free", SCHEDULE_FREE)])
@pytest.mark.parametrize("asked", [2, 4])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, undisturbed, recipe, overrides, asked):
    """Within an epoch, and while its statistics are estimated: three steps, two batches of them."""
    experiment = assemble(small_config(**overrides), small_dataset())
    with pytest.raises(Interrupted):
        train(experiment, tmp_path, stop=stop_at(asked))
    resumed, (_, expected) = run_small(tmp_path, **overrides), undisturbed[recipe]
    assert_same_bits(resumed.state, expected.state)
    assert without_times(resumed.history) == without_times(expected.history)
    assert np.array_equal(resumed.test_scores.logits, expected.test_scores.logits)
    for program in (resumed.programs.train, resumed.programs.moments, resumed.programs.evaluate):
        assert program._cache_size() == 1


@pytest.mark.parametrize(
    "devices",
    [{"train.devices": 2}, {"train.devices": 2, "train.parallel": "pmap"}],
    ids=["sharded", "pmap"],
)
def test_two_devices_average_as_one_does(tmp_path, devices):
    recipe = {**SGD, **NO_DROPOUT, "train.ema_decay": 0.6, "train.epochs": 2}
    alone = run_small(tmp_path / "one", **recipe).state
    both = run_small(tmp_path / "two", **recipe, **devices).state
    assert_close(both.average, alone.average, atol=1e-5)
    assert_close(both.average_stats, alone.average_stats, atol=1e-5)


def test_with_a_holdout_the_test_split_is_scored_with_the_best_average(tmp_path):
    result = run_small(tmp_path, **EMA, **{"data.validation": "holdout"})
    stored = load_stored(tmp_path)
    assert stored.saved.kind == "best"
    images = scale_pixels(small_dataset().test.images, "unit")
    expected = stored.model.apply(stored.variables, images, train=False)
    np.testing.assert_allclose(result.test_scores.logits, expected, atol=1e-4)
    assert result.programs.evaluate._cache_size() == 1


def test_a_network_without_batch_normalization_needs_no_statistics(tmp_path):
    result = run_small(tmp_path, **EMA, **{"model.norm": "none", "train.epochs": 1})
    assert result.programs.moments is None
    assert result.state.average_stats == {}
    stored = load_stored(tmp_path)
    assert stored.variables.keys() == {"params"}
    assert_same_bits(stored.variables["params"], jax.device_get(result.state.average))


@pytest.mark.parametrize("overrides", [EMA, SCHEDULE_FREE, {}], ids=["ema", "free", "plain"])
def test_a_run_starts_from_the_average_of_another(tmp_path, undisturbed, overrides):
    folder, result = undisturbed["ema"]
    config = small_config(**overrides, **{"train.init_from": str(folder)})
    experiment = assemble(config, small_dataset())
    with Checkpoints(tmp_path) as checkpoints:
        start, _ = find_start(experiment, checkpoints)
    assert_same_bits(start.state.params, result.state.average)
    assert_same_bits(start.state.batch_stats, result.state.average_stats)
    assert_same_bits(start.state.scored, result.state.scored)
    if overrides is SCHEDULE_FREE:
        free = optax.tree.get(start.state.opt_state, "ScheduleFreeState")
        assert_same_bits(free.z, result.state.average)


def test_a_whole_run_reports_the_average_and_evaluation_gives_the_same(tmp_path, capsys):
    recipe = ["--config.train.ema_decay=0.9", "--config.data.test_flips=true"]
    main.main([*SMALL_POOL, *recipe, f"--workdir={tmp_path}", "--config.train.epochs=2"])
    page = (tmp_path / "report.html").read_text()
    assert "The scores are those of an average of the parameters" in page
    assert "Logits are means over an image and its mirror image" in page
    summary = json.loads((tmp_path / "summary.json").read_text())
    capsys.readouterr()
    evaluate.main([str(tmp_path), "--format=json"])
    (found,) = json.loads(capsys.readouterr().out)["results"]
    assert found["accuracy"] == summary["final_val_accuracy"]
    assert found["loss"] == pytest.approx(summary["final_val_loss"], rel=1e-5)
    evaluate.main([str(tmp_path), "--format=json", "--data.test_flips=false"])
    (alone,) = json.loads(capsys.readouterr().out)["results"]
    assert alone["loss"] != pytest.approx(found["loss"], rel=1e-5)


def test_within_an_epoch_what_is_trained_is_loaded(tmp_path):
    """The average has no statistics yet."""
    experiment = assemble(small_config(**EMA), small_dataset())
    with pytest.raises(Interrupted):
        train(experiment, tmp_path, stop=stop_at(2))
    stored = load_stored(tmp_path)
    assert stored.saved.kind == "midway"
    tree = stored.saved.trees["state"]
    for name in ("params", "batch_stats"):
        expected = read_collection(tree, name)
        jax.tree.map(np.testing.assert_array_equal, stored.variables[name], expected)
    average = read_collection(tree, "average")
    same = jax.tree.map(np.array_equal, stored.variables["params"], average)
    assert not all(jax.tree.leaves(same))


def test_the_average_has_the_dtype_of_the_parameters():
    params = {"kernel": jnp.ones((2, 2), jnp.bfloat16)}
    state = TrainState(jnp.zeros((), jnp.int32), params, {}, (), jax.random.key(0))
    following = jax.jit(lambda state: moving_average(state, 0.9))(averaged(state))
    assert following.average["kernel"].dtype == jnp.bfloat16
