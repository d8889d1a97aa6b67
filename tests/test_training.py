"""Whole runs: resuming to the bit, one program each, early stopping, failing loudly."""

import json
import shutil

import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaxlab.errors import RunFailed, UsageError
from flaxlab.training.checkpoints import Checkpoints
from flaxlab.training.experiment import assemble
from flaxlab.training.history import best_row, should_stop, to_csv
from flaxlab.training.loop import fit
from flaxlab.training.optimizer import make_optimizer, make_schedule
from flaxlab.training.record import check_resumable, make_record
from tests.conftest import small_config, small_dataset


class Listener:
    """An observer that does nothing; subclasses interrupt the run."""

    def run_started(self, experiment, history): ...
    def step_done(self, epoch, step, running): ...
    def epoch_done(self, row): ...
    def run_done(self): ...


class StopAfter(Listener):
    def __init__(self, epoch):
        self.epoch = epoch

    def epoch_done(self, row):
        if row["epoch"] == self.epoch:
            raise KeyboardInterrupt


def run(workdir, observers=(), dataset=None, **overrides):
    return fit(assemble(small_config(**overrides), dataset or small_dataset()), workdir, observers)


def assert_same_bits(ours, expected):
    ours, expected = (jax.tree_util.tree_leaves_with_path(tree) for tree in (ours, expected))
    assert len(ours) == len(expected) > 20
    for (path, a), (other, b) in zip(ours, expected, strict=True):
        assert path == other
        if jax.numpy.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), jax.tree_util.keystr(path)


def without_times(history):
    timed = ("seconds", "images_per_second")
    return [{key: value for key, value in row.items() if key not in timed} for row in history]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return {
        protocol: run(tmp_path_factory.mktemp(protocol), **{"data.validation": protocol})
        for protocol in ("test", "holdout")
    }


@pytest.mark.parametrize("protocol", ["test", "holdout"])
@pytest.mark.parametrize("stops", [(1,), (2,), (3,), (1, 2, 3)])
def test_a_stopped_and_resumed_run_ends_with_the_same_bits(tmp_path, undisturbed, protocol, stops):
    for epoch in stops:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, [StopAfter(epoch)], **{"data.validation": protocol})
    resumed = run(tmp_path, **{"data.validation": protocol})
    expected = undisturbed[protocol]
    assert_same_bits(resumed.state, expected.state)
    assert without_times(resumed.history) == without_times(expected.history)
    assert np.array_equal(resumed.test_scores.logits, expected.test_scores.logits)
    assert resumed.test_scores.accuracy == expected.test_scores.accuracy


def test_a_run_stopped_inside_an_epoch_repeats_that_epoch(tmp_path, undisturbed, monkeypatch):
    class StopInside(Listener):
        def step_done(self, epoch, step, running):
            if (epoch, step) == (2, 2):
                raise KeyboardInterrupt

    monkeypatch.setattr("flaxlab.training.epoch._TICK_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [StopInside()])
    resumed = run(tmp_path)
    assert_same_bits(resumed.state, undisturbed["test"].state)


def test_more_epochs_go_on_from_a_finished_run(tmp_path, undisturbed):
    run(tmp_path, **{"train.epochs": 1})
    assert_same_bits(run(tmp_path).state, undisturbed["test"].state)


@pytest.mark.parametrize("protocol", ["test", "holdout"])
def test_one_program_each_for_training_and_evaluation(tmp_path, undisturbed, protocol):
    # 21 examples in batches of 8: the last batch is partial in every split.
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [StopAfter(1)], **{"data.validation": protocol})
    resumed = run(tmp_path, **{"data.validation": protocol})
    for result in (undisturbed[protocol], resumed):
        assert result.programs.train._cache_size() == 1
        assert result.programs.evaluate._cache_size() == 1


def test_every_example_is_scored_once_and_counted_once(undisturbed):
    scores = undisturbed["test"].test_scores
    assert np.array_equal(scores.labels, small_dataset().test.labels)
    assert scores.logits.shape == (10, 3)
    expected = np.mean(scores.logits.argmax(axis=1) == scores.labels)
    assert scores.accuracy == undisturbed["test"].history[-1]["val_accuracy"] == expected
    for row in undisturbed["test"].history:
        assert (row["train_accuracy"] * 21) == pytest.approx(round(row["train_accuracy"] * 21))


def test_a_holdout_takes_nothing_from_the_test_split(tmp_path):
    experiment = assemble(small_config(**{"data.validation": "holdout"}), small_dataset())
    splits = experiment.splits
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (18, 3, 10)
    assert sorted(splits.validation.labels) == [0, 1, 2]
    together = np.concatenate([splits.train.images, splits.validation.images])
    assert {x.tobytes() for x in together} == {x.tobytes() for x in small_dataset().train.images}


def test_a_holdout_reports_the_best_epoch_on_the_test_split(tmp_path):
    result = run(tmp_path, **{"data.validation": "holdout", "optimizer.learning_rate": 0.05})
    best = best_row(result.history)["epoch"]
    assert result.test_scores.epoch == best
    experiment = assemble(small_config(**{"data.validation": "holdout"}), small_dataset())
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state = checkpoints.restore_best(experiment.create_state())
    test = small_dataset().test
    batch = {"image": test.images, "label": test.labels, "mask": np.ones(10, bool)}
    _, logits = jax.jit(experiment.eval_step)(state, batch)
    np.testing.assert_allclose(result.test_scores.logits, logits, atol=1e-5)


def test_a_save_is_not_touched_by_the_steps_after_it(tmp_path):
    experiment = assemble(small_config(), small_dataset())
    donating = jax.jit(experiment.train_step, donate_argnums=0)
    batch = {
        "image": small_dataset().train.images[:8],
        "label": small_dataset().train.labels[:8],
        "mask": np.ones(8, bool),
    }
    state = experiment.create_state()
    for _ in range(5):
        with Checkpoints(tmp_path) as checkpoints:
            state, _ = donating(state, batch)
            kept = jax.tree.map(lambda leaf: leaf.copy(), state)
            checkpoints.save_latest(state, {})
            for _ in range(3):
                state, _ = donating(state, batch)
        with Checkpoints(tmp_path) as checkpoints:
            assert_same_bits(checkpoints.restore_latest(state), kept)


def test_latest_and_best_are_apart(tmp_path):
    run(tmp_path, **{"checkpoint.keep": 1})
    latest, best = tmp_path / "checkpoints/latest", tmp_path / "checkpoints/best"
    assert [path.name for path in latest.iterdir()] == ["9"]
    assert 1 <= len(list(best.iterdir())) <= 2


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"optimizer.learning_rate": 0.1}, "optimizer.learning_rate: 0.001 there, 0.1 now"),
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"model.head_units": (16, 4)}, "model.head_units: (16, 8) there, (16, 4) now"),
    ],
)
def test_another_config_is_refused_and_nothing_is_lost(tmp_path, overrides, named):
    run(tmp_path, **{"train.epochs": 1})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError) as error:
        run(tmp_path, **overrides)
    assert named in str(error.value)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_other_data_are_refused():
    config, dataset = small_config(), small_dataset()
    record = json.loads(json.dumps(make_record(config, dataset, [])))
    check_resumable(record, config, dataset)
    check_resumable(record, small_config(**{"train.epochs": 9, "log.progress": "none"}), dataset)
    record["dataset"]["fingerprint"] = "another"
    with pytest.raises(UsageError, match="other data"):
        check_resumable(record, config, dataset)


def test_the_epochs_of_a_cosine_schedule_cannot_change():
    config = small_config(**{"optimizer.schedule": "cosine"})
    more = small_config(**{"optimizer.schedule": "cosine", "train.epochs": 9})
    record = json.loads(json.dumps(make_record(config, small_dataset(), [])))
    with pytest.raises(UsageError, match=r"train\.epochs: 3 there, 9 now"):
        check_resumable(record, more, small_dataset())


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    run(tmp_path, **{"train.epochs": 1, "optimizer.name": "sgd", "optimizer.learning_rate": 0.1})
    config = {"optimizer.name": "sgd", "optimizer.learning_rate": 1e30}
    with pytest.raises(RunFailed, match=r"step \d+ \(epoch 1\)"):
        run(tmp_path / "other", **config)
    assert not any((tmp_path / "other/checkpoints/latest").iterdir())
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert len(checkpoints.latest_record()["history"]) == 1


def test_a_last_step_that_destroys_the_model_is_not_saved(tmp_path):
    # One step an epoch: its loss is that of the state before it, and still finite.
    rate = {"optimizer.name": "sgd", "optimizer.learning_rate": 1e30, "train.batch_size": 32}
    with pytest.raises(RunFailed, match=r"validation loss is NaN or infinite after step 1"):
        run(tmp_path, **rate)
    assert not any((tmp_path / "checkpoints/latest").iterdir())
    assert not any((tmp_path / "checkpoints/best").iterdir())


def test_a_run_killed_between_the_best_and_the_latest_save(tmp_path, undisturbed, monkeypatch):
    def killed(self, state, record):
        raise KeyboardInterrupt

    run(tmp_path, **{"train.epochs": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save_latest", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    assert_same_bits(run(tmp_path).state, undisturbed["test"].state)


def test_the_best_of_another_run_is_not_taken_for_ones_own(tmp_path, undisturbed):
    holdout = {"data.validation": "holdout"}
    run(tmp_path, **holdout, seed=7)
    shutil.rmtree(tmp_path / "checkpoints/latest")
    result = run(tmp_path, **holdout)
    expected = undisturbed["holdout"].test_scores
    assert np.array_equal(result.test_scores.logits, expected.logits)


def test_fewer_epochs_than_there_are_are_refused(tmp_path):
    run(tmp_path, **{"train.epochs": 2})
    with pytest.raises(UsageError, match=r"has 2 epochs, but config\.train\.epochs is 1"):
        run(tmp_path, **{"train.epochs": 1})
    assert json.loads((tmp_path / "config.json").read_text())["train"]["epochs"] == 2


def test_what_a_finished_run_lost_is_written_again(tmp_path):
    run(tmp_path)
    before = (tmp_path / "history.csv").read_text()
    (tmp_path / "history.csv").unlink()
    (tmp_path / "summary.json").write_text("{}")
    run(tmp_path)
    assert (tmp_path / "history.csv").read_text() == before
    assert (tmp_path / "summary.json").exists()
    run(tmp_path, **{"train.epochs": 4})
    assert not (tmp_path / "summary.json").exists()


# The reads that Orbax had under way when one failed complain of a closed event loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_truncated_checkpoint_is_one_line(tmp_path):
    run(tmp_path)
    folder = tmp_path / "checkpoints/latest/9"
    for path in folder.glob("state/**/d/*"):
        path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(UsageError, match=r"latest/9 cannot be read .* move that folder away"):
        run(tmp_path)
    folder.rename(tmp_path / "away")
    assert len(run(tmp_path).history) == 3


def test_early_stopping_ends_a_run_that_no_longer_improves(tmp_path):
    rate = {"optimizer.learning_rate": 1e-12, "train.early_stopping_patience": 2}
    result = run(tmp_path, **rate, **{"train.epochs": 50, "model.batch_norm_momentum": 0.0})
    assert 3 <= len(result.history) < 50
    assert should_stop(result.history, 2, 0.0)
    assert not should_stop(result.history[:-1], 2, 0.0)


def rows(accuracies):
    return [
        {"epoch": epoch, "val_accuracy": value} for epoch, value in enumerate(accuracies, start=1)
    ]


@pytest.mark.parametrize(
    ("accuracies", "patience", "delta", "stops"),
    [
        ([0.5, 0.4, 0.4], 0, 0.0, False),
        ([0.5, 0.4], 2, 0.0, False),
        ([0.5, 0.4, 0.5], 2, 0.0, True),
        ([0.5, 0.4, 0.6, 0.6], 2, 0.0, False),
        ([0.5, 0.505, 0.509], 2, 0.01, True),
        ([], 1, 0.0, False),
    ],
)
def test_when_early_stopping_stops(accuracies, patience, delta, stops):
    assert should_stop(rows(accuracies), patience, delta) == stops


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=1))
def test_the_best_row_is_the_earliest_of_the_highest(accuracies):
    assert best_row(rows(accuracies))["epoch"] == 1 + accuracies.index(max(accuracies))


def test_history_csv_keeps_every_digit(undisturbed):
    history = undisturbed["test"].history
    header, *lines = to_csv(history).splitlines()
    assert header.startswith(
        "epoch,train_loss,train_accuracy,val_loss,val_accuracy,learning_rate,seconds"
    )
    assert [float(value) for value in lines[1].split(",")] == list(history[1].values())


def schedule_values(**overrides):
    overrides = {f"optimizer.{key}": value for key, value in overrides.items()}
    config = small_config(**overrides).optimizer
    schedule = make_schedule(config, steps_per_epoch=10, epochs=6)
    return [float(schedule(step)) for step in range(60)]


def test_schedules():
    assert schedule_values() == pytest.approx([1e-3] * 60)
    step = schedule_values(schedule="step", step_epochs=2.0, step_factor=0.5)
    assert step[0:60:20] == pytest.approx([1e-3, 5e-4, 2.5e-4])
    assert step[19] == pytest.approx(1e-3)
    cosine = schedule_values(schedule="cosine")
    assert cosine[30] == pytest.approx(5e-4)
    assert cosine[59] < 1e-5
    warm = schedule_values(warmup_epochs=1.0)
    assert warm[0] == pytest.approx(1e-3 / 11)
    assert warm[10:] == pytest.approx([1e-3] * 50)
    assert np.all(np.diff(warm[:11]) > 0)


def test_adam_against_its_formula():
    config = small_config(**{"optimizer.learning_rate": 0.1, "optimizer.epsilon": 1e-3}).optimizer
    optimizer = make_optimizer(config, make_schedule(config, 1, 1))
    rng = np.random.default_rng(0)
    params, state = np.zeros(5), optimizer.init(np.zeros(5))
    m = v = np.zeros(5)
    expected = np.zeros(5)
    for t in range(1, 6):
        grad = rng.normal(size=5)
        updates, state = optimizer.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        expected = expected - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-3)
    np.testing.assert_allclose(params, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_every_optimizer_trains(tmp_path, name):
    result = run(tmp_path, **{"optimizer.name": name, "optimizer.learning_rate": 0.01})
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


def test_statistics_that_cannot_settle_are_warned_of():
    # 3 epochs of 3 steps keep 0.99**9 of the initial statistics.
    (warning,) = assemble(small_config(), small_dataset()).warnings()
    assert "cannot settle in 9 steps" in warning
    assert "91%" in warning
    assert "--config.model.batch_norm_momentum=0.11" in warning
    settled = {"model.batch_norm_momentum": 0.1}
    assert assemble(small_config(**settled), small_dataset()).warnings() == []
    assert assemble(small_config(**{"model.batch_norm": False}), small_dataset()).warnings() == []


def test_a_slow_way_to_train_is_warned_of():
    slow = {"model.batch_norm": False, "train.steps_per_execution": 2}
    (warning,) = assemble(small_config(**slow), small_dataset()).warnings()
    assert "--config.train.steps_per_execution=1" in warning


def test_images_that_are_too_small_are_refused():
    with pytest.raises(UsageError, match=r"block1: the convolution kernel of 11x11 .* of 8x8"):
        assemble(
            small_config(**{"model.padding": "VALID", "model.blocks": (((4, 11),), ((8, 3),))}),
            small_dataset(),
        )
