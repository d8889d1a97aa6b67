"""Whole runs: resuming to the bit, one program each, early stopping, failing loudly."""

import dataclasses
import itertools
import json
import re
import shutil
import signal
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from flaxlab.checkpoints.save import Checkpoints
from flaxlab.config.rules import OPTIMIZERS
from flaxlab.errors import Interrupted, RunFailed, UsageError
from flaxlab.run.history import best_row, to_csv
from flaxlab.run.record import make_record
from flaxlab.run.resume_rules import check_resumable
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble
from flaxlab.training.metrics import stops_early
from tests.helpers.comparing import assert_same_bits, without_times
from tests.helpers.runs import Listener, run_small, small_config, small_dataset


class StopAfter(Listener):
    def __init__(self, epoch):
        self.epoch = epoch

    def epoch_done(self, row):
        if row.epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return {
        protocol: run_small(tmp_path_factory.mktemp(protocol), **{"data.validation": protocol})
        for protocol in ("test", "holdout")
    }


@pytest.mark.parametrize("protocol", ["test", "holdout"])
@pytest.mark.parametrize("stops", [(1,), (2,), (3,), (1, 2, 3)])
def test_a_stopped_and_resumed_run_ends_with_the_same_bits(tmp_path, undisturbed, protocol, stops):
    for epoch in stops:
        with pytest.raises(KeyboardInterrupt):
            run_small(tmp_path, [StopAfter(epoch)], **{"data.validation": protocol})
    resumed = run_small(tmp_path, **{"data.validation": protocol})
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

    monkeypatch.setattr("flaxlab.run.hooks._TICK_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run_small(tmp_path, [StopInside()])
    resumed = run_small(tmp_path)
    assert_same_bits(resumed.state, undisturbed["test"].state)


SELDOM = {"checkpoint.epoch_seconds": 1000.0}


def saved(folder, kind):
    return sorted(int(path.name) for path in (folder / "checkpoints" / kind).glob("[0-9]*"))


def test_epochs_are_saved_when_enough_time_has_passed_and_at_the_end(tmp_path, undisturbed):
    result = run_small(tmp_path, **SELDOM)
    assert_same_bits(result.state, undisturbed["test"].state)
    assert saved(tmp_path, "latest") == [9]  # three epochs of three steps
    assert saved(tmp_path, "best") == [3 * best_row(result.history).epoch]
    assert (tmp_path / "history.csv").read_text() == to_csv(result.history)


@pytest.mark.parametrize("protocol", ["test", "holdout"])
def test_a_signal_saves_the_epochs_that_were_not_saved_yet(tmp_path, undisturbed, protocol):
    asked = itertools.count()
    overrides = {**SELDOM, "data.validation": protocol}
    with pytest.raises(Interrupted):
        train(
            assemble(small_config(**overrides), small_dataset()),
            tmp_path,
            stop=lambda: signal.SIGTERM if next(asked) == 7 else None,
        )
    assert not saved(tmp_path, "latest")
    assert saved(tmp_path, "midway")
    assert saved(tmp_path, "best") == [3]
    resumed, expected = run_small(tmp_path, **overrides), undisturbed[protocol]
    assert_same_bits(resumed.state, expected.state)
    assert without_times(resumed.history) == without_times(expected.history)
    assert resumed.test_scores.accuracy == expected.test_scores.accuracy


def test_checkpoints_within_epochs_do_not_keep_those_of_epochs_from_being_saved(
    tmp_path, monkeypatch
):
    clock = itertools.count()  # a second from one look at it to the next
    own_clock = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr("flaxlab.run.hooks.time", own_clock)
    # Of the three steps of an epoch, the second.
    often = {"checkpoint.every_steps": 2, "checkpoint.every_minutes": 0.0, "train.epochs": 12}
    run_small(tmp_path, **often, **{"checkpoint.epoch_seconds": 25.0, "checkpoint.keep": 12})
    assert 2 < len(saved(tmp_path, "latest")) < 12


def test_every_steps_counts_the_last_step_of_an_epoch(tmp_path):
    run_small(tmp_path, **SELDOM, **{"checkpoint.every_steps": 3, "checkpoint.keep": 3})
    assert saved(tmp_path, "latest") == [3, 6, 9]


def test_several_steps_a_call_save_no_more_often(tmp_path):
    # Three steps an epoch, two a call: calls end after steps 2 and 3, and only the first passes 2.
    often = {"checkpoint.every_steps": 2, "train.steps_per_execution": 2, "checkpoint.keep": 3}
    run_small(tmp_path, **SELDOM, **often)
    assert saved(tmp_path, "latest") == [9]


def test_other_steps_a_call_are_a_warning(tmp_path, caplog):
    run_small(tmp_path, **{"train.epochs": 1})
    run_small(tmp_path, **{"train.steps_per_execution": 3})
    assert "took 1 steps in a call and now takes 3, which may round differently" in caplog.text


def test_another_number_of_threads_is_a_warning(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("NPROC", "12")  # more than the devices, which have a thread each
    run_small(tmp_path, **{"train.epochs": 1})
    monkeypatch.setenv("NPROC", "9")
    run_small(tmp_path, **{"train.epochs": 2})
    goes_on = (
        r"was computed by 12 threads of (.*) and goes on with 9 threads of \1, which may round"
    )
    assert re.search(goes_on, caplog.text)
    assert caplog.text.count("differently; NPROC=12 keeps the same bits") == 1


def test_another_processor_is_a_warning_without_a_remedy(tmp_path, caplog, monkeypatch):
    run_small(tmp_path, **{"train.epochs": 1})
    monkeypatch.setattr("flaxlab.run.record.processor_name", lambda: "Z80")
    run_small(tmp_path, **{"train.epochs": 1})
    assert "Z80" not in caplog.text  # nothing is left to compute
    run_small(tmp_path, **{"train.epochs": 2})
    assert "of Z80, which may round differently\n" in caplog.text


@pytest.mark.parametrize("now", [{"device": "GPU 2"}, {"device": "Z80", "threads": 2}])
def test_another_kind_of_device_is_a_warning_without_a_remedy(tmp_path, caplog, monkeypatch, now):
    monkeypatch.setattr("flaxlab.run.record.computed_by", lambda devices: {"device": "GPU 1"})
    run_small(tmp_path, **{"train.epochs": 1})
    monkeypatch.setattr("flaxlab.run.resume_rules.computed_by", lambda devices: now)
    run_small(tmp_path, **{"train.epochs": 2})
    told = "2 threads of Z80" if "threads" in now else "GPU 2"
    assert (
        f"computed by GPU 1 and goes on with {told}, which may round differently\n" in caplog.text
    )


def test_more_epochs_go_on_from_a_finished_run(tmp_path, undisturbed):
    run_small(tmp_path, **{"train.epochs": 1})
    assert_same_bits(run_small(tmp_path).state, undisturbed["test"].state)


@pytest.mark.parametrize("protocol", ["test", "holdout"])
def test_one_program_each_for_training_and_evaluation(tmp_path, undisturbed, protocol):
    # 21 examples in batches of 8: the last batch is partial in every split.
    with pytest.raises(KeyboardInterrupt):
        run_small(tmp_path, [StopAfter(1)], **{"data.validation": protocol})
    resumed = run_small(tmp_path, **{"data.validation": protocol})
    for result in (undisturbed[protocol], resumed):
        assert result.programs.train._cache_size() == 1
        assert result.programs.evaluate._cache_size() == 1


def test_every_example_is_scored_once_and_counted_once(undisturbed):
    scores = undisturbed["test"].test_scores
    assert np.array_equal(scores.labels, small_dataset().test.labels)
    assert scores.logits.shape == (10, 3)
    expected = np.mean(scores.logits.argmax(axis=1) == scores.labels)
    assert scores.accuracy == undisturbed["test"].history[-1].val_accuracy == expected
    for row in undisturbed["test"].history:
        assert (row.train_accuracy * 21) == pytest.approx(round(row.train_accuracy * 21))


def test_a_holdout_takes_nothing_from_the_test_split(tmp_path):
    experiment = assemble(small_config(**{"data.validation": "holdout"}), small_dataset())
    splits = experiment.splits
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (18, 3, 10)
    assert sorted(splits.validation.labels) == [0, 1, 2]
    together = np.concatenate([splits.train.images, splits.validation.images])
    assert {x.tobytes() for x in together} == {x.tobytes() for x in small_dataset().train.images}


def test_a_holdout_reports_the_best_epoch_on_the_test_split(tmp_path):
    result = run_small(tmp_path, **{"data.validation": "holdout", "optimizer.learning_rate": 0.05})
    best = best_row(result.history).epoch
    assert result.test_epoch == best
    experiment = assemble(small_config(**{"data.validation": "holdout"}), small_dataset())
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state = checkpoints.restore_best(
            experiment.create_state(), best * experiment.steps_per_epoch
        )
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
            assert_same_bits(checkpoints.newest().restore(state), kept)


def test_latest_and_best_are_apart(tmp_path):
    run_small(tmp_path, **{"checkpoint.keep": 1})
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
    run_small(tmp_path, **{"train.epochs": 1})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError) as error:
        run_small(tmp_path, **overrides)
    assert named in str(error.value)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_other_data_are_refused():
    config, dataset = small_config(), small_dataset()
    record = json.loads(json.dumps(make_record(assemble(config, dataset), [])))
    check_resumable(record, assemble(config, dataset))
    more = small_config(**{"train.epochs": 9, "log.progress": "none"})
    check_resumable(record, assemble(more, dataset))
    record["dataset"]["fingerprint"] = "another"
    with pytest.raises(UsageError, match="other data"):
        check_resumable(record, assemble(config, dataset))


def test_a_run_whose_config_has_fields_of_an_older_version_goes_on():
    experiment = assemble(small_config(), small_dataset())
    record = json.loads(json.dumps(make_record(experiment, [])))
    record["config"]["reported"] = {"data": "digits", "final_accuracy": 0.5, "best_accuracy": None}
    check_resumable(record, experiment)


def test_the_epochs_of_a_cosine_schedule_cannot_change():
    config = small_config(**{"optimizer.schedule": "cosine"})
    more = small_config(**{"optimizer.schedule": "cosine", "train.epochs": 9})
    record = json.loads(json.dumps(make_record(assemble(config, small_dataset()), [])))
    with pytest.raises(UsageError, match=r"train\.epochs: 3 there, 9 now"):
        check_resumable(record, assemble(more, small_dataset()))


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    run_small(
        tmp_path, **{"train.epochs": 1, "optimizer.name": "sgd", "optimizer.learning_rate": 0.1}
    )
    config = {"optimizer.name": "sgd", "optimizer.learning_rate": 1e30}
    with pytest.raises(RunFailed, match=r"step \d+ \(epoch 1\)"):
        run_small(tmp_path / "other", **config)
    assert not any((tmp_path / "other/checkpoints/latest").iterdir())
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert len(checkpoints.newest().record["history"]) == 1


def test_a_last_step_that_destroys_the_model_is_not_saved(tmp_path):
    # One step an epoch: its loss is that of the state before it, and still finite.
    rate = {"optimizer.name": "sgd", "optimizer.learning_rate": 1e30, "train.batch_size": 21}
    with pytest.raises(RunFailed, match=r"validation loss is NaN or infinite after step 1"):
        run_small(tmp_path, **rate)
    assert not any((tmp_path / "checkpoints/latest").iterdir())
    assert not any((tmp_path / "checkpoints/best").iterdir())


def test_a_run_killed_between_the_best_and_the_latest_save(tmp_path, undisturbed, monkeypatch):
    def killed(self, state, record):
        raise KeyboardInterrupt

    run_small(tmp_path, **{"train.epochs": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save_latest", killed)
        with pytest.raises(KeyboardInterrupt):
            run_small(tmp_path)
    assert_same_bits(run_small(tmp_path).state, undisturbed["test"].state)


def test_the_best_of_another_run_is_not_taken_for_ones_own(tmp_path, undisturbed):
    holdout = {"data.validation": "holdout"}
    run_small(tmp_path, **holdout, seed=7)
    shutil.rmtree(tmp_path / "checkpoints/latest")
    result = run_small(tmp_path, **holdout)
    expected = undisturbed["holdout"].test_scores
    assert np.array_equal(result.test_scores.logits, expected.logits)


def test_fewer_epochs_than_there_are_are_refused(tmp_path):
    run_small(tmp_path, **{"train.epochs": 2})
    with pytest.raises(UsageError, match=r"has reached epoch 2, but config\.train\.epochs is 1"):
        run_small(tmp_path, **{"train.epochs": 1})
    assert json.loads((tmp_path / "config.json").read_text())["train"]["epochs"] == 2


def test_what_a_finished_run_lost_is_written_again(tmp_path):
    run_small(tmp_path)
    before = (tmp_path / "history.csv").read_text()
    (tmp_path / "history.csv").unlink()
    (tmp_path / "summary.json").write_text("{}")
    run_small(tmp_path)
    assert (tmp_path / "history.csv").read_text() == before
    assert (tmp_path / "summary.json").exists()
    run_small(tmp_path, **{"train.epochs": 4})
    assert not (tmp_path / "summary.json").exists()


def test_early_stopping_ends_a_run_that_no_longer_improves(tmp_path, caplog):
    rate = {"optimizer.learning_rate": 1e-12, "train.early_stopping_patience": 2}
    result = run_small(tmp_path, **rate, **{"train.epochs": 50, "model.batch_norm_momentum": 0.0})
    assert 3 <= len(result.history) < 50
    assert stops_early(result.history, 2, 0.0)
    assert not stops_early(result.history[:-1], 2, 0.0)
    caplog.set_level("INFO", logger="flaxlab")
    run_small(tmp_path, **rate, **{"train.epochs": 60, "model.batch_norm_momentum": 0.0})
    assert f"this run stopped early after epoch {len(result.history)}" in caplog.text


def test_history_csv_keeps_every_digit(undisturbed):
    history = undisturbed["test"].history
    header, *lines = to_csv(history).splitlines()
    assert header.startswith(
        "epoch,train_loss,train_accuracy,val_loss,val_accuracy,learning_rate,seconds"
    )
    assert [float(value) for value in lines[1].split(",")] == list(dataclasses.astuple(history[1]))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains(tmp_path, name):
    result = run_small(tmp_path, **{"optimizer.name": name, "optimizer.learning_rate": 0.01})
    assert result.history[-1].train_loss < result.history[0].train_loss
