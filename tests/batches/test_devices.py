"""Several devices share each batch: the numbers are those of one device."""

import json

import jax
import numpy as np
import pytest

from flaxlab.batches.devices import find_devices
from flaxlab.errors import UsageError
from flaxlab.main import main
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble
from tests.helpers.comparing import assert_close
from tests.helpers.runs import SGD, SMALL_POOL, small_config, small_dataset

# 21 examples in batches of 8: of the last one, five count, and with eight devices three have none.
WAYS = [("sharded", 2), ("sharded", 8), ("pmap", 2), ("pmap", 8)]


def trained(workdir, devices, parallel="sharded", **overrides):
    config = {**SGD, "train.devices": devices, "train.parallel": parallel, **overrides}
    return train(assemble(small_config(**config), small_dataset()), workdir)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("alone"), 1)


@pytest.mark.parametrize(("parallel", "devices"), WAYS)
@pytest.mark.parametrize("placement", ["resident", "streamed"])
def test_a_run_gives_the_numbers_of_one_device(tmp_path, alone, parallel, devices, placement):
    spread = trained(tmp_path, devices, parallel, **{"data.placement": placement})
    assert_close(spread.state, alone.state)
    for ours, expected in zip(spread.history, alone.history, strict=True):
        for key in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "penalty"):
            assert getattr(ours, key) == pytest.approx(getattr(expected, key), abs=1e-6)
    np.testing.assert_allclose(spread.test_scores.logits, alone.test_scores.logits, atol=1e-5)


@pytest.mark.parametrize("parallel", ["sharded", "pmap"])
def test_several_steps_in_one_call(tmp_path, alone, parallel):
    spread = trained(tmp_path, 2, parallel, **{"train.steps_per_execution": 2})
    assert_close(spread.state, alone.state)


def test_each_device_has_its_share_of_a_batch_and_the_whole_state():
    devices = find_devices("sharded", 8, 32)
    batches = devices.put_batches({"label": np.arange(64).reshape(2, 32)}, 32)
    parts = [shard.data for shard in batches["label"].addressable_shards]
    assert sorted(part.shape for part in parts) == [(2, 4)] * 8
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), np.arange(64).reshape(2, 32))
    state = devices.put({"kernel": np.ones((3, 5))})
    assert [shard.data.shape for shard in state["kernel"].addressable_shards] == [(3, 5)] * 8


@pytest.mark.parametrize("parallel", ["sharded", "pmap"])
def test_a_run_goes_on_with_another_number_of_devices(tmp_path, alone, parallel):
    trained(tmp_path, 8, parallel, **{"train.epochs": 1})
    trained(tmp_path, 1, **{"train.epochs": 2})
    resumed = trained(tmp_path, 2, parallel)
    assert len(resumed.history) == len(alone.history)
    assert_close(resumed.state, alone.state)


def test_the_report_says_how_many_devices_there_were(tmp_path):
    options = ["--config.train.devices=8", "--config.train.epochs=1"]
    main([*SMALL_POOL, f"--workdir={tmp_path}", *options])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["device"].startswith("8 x cpu")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("train.batch_size", 20, "8 devices cannot share evenly; use 16 or 24"),
        ("train.batch_size", 6, "use 8, or --config.train.devices=6"),
        ("train.devices", 9, "there are 8 devices"),
    ],
)
def test_what_the_devices_cannot_do_is_said(field, value, message):
    config = small_config(**{"train.devices": None, field: value})
    with pytest.raises(UsageError, match=message):
        assemble(config, small_dataset())


def test_without_a_number_all_devices_take_part():
    experiment = assemble(small_config(**{"train.devices": None}), small_dataset())
    assert experiment.devices.count == len(jax.devices()) == 8
