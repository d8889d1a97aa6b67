"""Stopping and going on inside of an epoch, at every step, with every way of reading the data."""

import json
import signal

import numpy as np
import pytest

import flaxlab
from flaxlab.checkpoints.find import find_saved
from flaxlab.errors import Interrupted, UsageError
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble
from tests.helpers.comparing import assert_same_bits, without_times
from tests.helpers.runs import run_small, small_config, small_dataset, stop_at


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run_small(tmp_path_factory.mktemp("undisturbed"))


def resumed(workdir, stops, dataset=None, **overrides):
    experiment = assemble(small_config(**overrides), dataset or small_dataset())
    for count in stops:
        with pytest.raises(Interrupted) as stopped:
            train(experiment, workdir, stop=stop_at(count))
        assert stopped.value.signal == signal.SIGTERM
        assert "everything is saved" in str(stopped.value)
    return train(experiment, workdir)


# An epoch asks six times: after three steps, after two scored batches, and at its end.
@pytest.mark.parametrize("stops", [(1,), (2,), (3,), (4,), (5,), (6,), (8,), (1, 1, 1, 1, 1, 1, 1)])
def test_a_run_that_is_stopped_anywhere_ends_with_the_same_bits(tmp_path, undisturbed, stops):
    result = resumed(tmp_path, stops)
    assert_same_bits(result.state, undisturbed.state)
    assert without_times(result.history) == without_times(undisturbed.history)
    np.testing.assert_array_equal(result.test_scores.logits, undisturbed.test_scores.logits)
    assert all(row.images_per_second > 0 for row in result.history)
    assert not list((tmp_path / "checkpoints/midway").iterdir())


@pytest.mark.parametrize("placement", ["resident", "streamed"])
def test_several_steps_a_call_stop_and_go_on_between_calls(tmp_path, placement):
    overrides = {
        "data.placement": placement,
        "train.steps_per_execution": 2,
        "checkpoint.every_steps": 3,
        "data.validation": "holdout",
    }
    dataset = small_dataset(train=60)
    expected = train(assemble(small_config(**overrides), dataset), tmp_path / "undisturbed")
    result = resumed(tmp_path / "stopped", (1, 2, 3, 1), dataset, **overrides)
    assert_same_bits(result.state, expected.state)
    assert without_times(result.history) == without_times(expected.history)
    assert result.programs.train._cache_size() <= 2  # whole calls, and a shorter last one


def test_a_checkpoint_inside_of_an_epoch_is_shown_and_loaded_as_what_it_is(tmp_path):
    experiment = assemble(small_config(), small_dataset())
    with pytest.raises(Interrupted):
        train(experiment, tmp_path, stop=stop_at(2))
    (saved,) = find_saved(tmp_path)
    assert (saved.kind, saved.step) == ("midway", 2)
    assert saved.metrics().keys() == {"epoch", "train_loss", "train_accuracy"}
    assert saved.metrics()["epoch"] == 1
    _, variables, _ = flaxlab.load(tmp_path)
    assert "params" in variables
    assert (tmp_path / "history.csv").read_text().count("\n") == 1


def test_saves_inside_of_an_epoch_come_by_steps_and_by_minutes(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(
        "flaxlab.checkpoints.save.Checkpoints.save_midway",
        lambda self, state, record: saved.append(int(state.step)),
    )
    dataset = small_dataset(train=80)
    train(assemble(small_config(**{"checkpoint.every_steps": 4}), dataset), tmp_path / "steps")
    assert saved == [4, 8, 14, 18, 24, 28]
    saved.clear()
    train(assemble(small_config(**{"checkpoint.every_minutes": 1e-9}), dataset), tmp_path / "time")
    assert saved == [step for step in range(1, 30) if step % 10]
    saved.clear()
    train(assemble(small_config(**{"checkpoint.every_minutes": 0.0}), dataset), tmp_path / "never")
    assert saved == []


def test_fewer_epochs_than_have_begun_are_refused(tmp_path):
    with pytest.raises(Interrupted):
        train(assemble(small_config(), small_dataset()), tmp_path, stop=stop_at(6 + 1))
    one = assemble(small_config(**{"train.epochs": 1}), small_dataset())
    with pytest.raises(UsageError, match="has reached epoch 2, but"):
        train(one, tmp_path)


def test_history_shows_an_epoch_only_once_it_is_saved(tmp_path, monkeypatch):
    """A process that is killed while its save is under way has not promised anything."""
    shown = []

    def never_done(self, state, record):
        shown.append((tmp_path / "history.csv").read_text().count("\n") - 1)

    monkeypatch.setattr("flaxlab.checkpoints.save.Checkpoints.save_latest", never_done)
    train(assemble(small_config(), small_dataset()), tmp_path)
    assert shown == [0, 0, 0]
    assert (tmp_path / "history.csv").read_text().count("\n") == 1
    assert json.loads((tmp_path / "config.json").read_text())["name"] == "small"
