"""Resident, streamed and chunked: the same batches, the same run, one program."""

import csv
import json
import threading

import jax
import numpy as np
import pytest

from flaxlab.data.dataset import Split
from flaxlab.data.feed import _ahead, make_feed, read_batch
from flaxlab.data.pipeline import eval_batches, train_batches
from flaxlab.training.experiment import assemble
from flaxlab.training.loop import fit
from tests.conftest import small_config, small_dataset

EXAMPLES, BATCH, SEED = 21, 4, 3  # six batches, the last one of a single example


def random_split():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (EXAMPLES, 5, 7, 3), dtype=np.uint8)
    return Split(images, rng.integers(0, 9, EXAMPLES).astype(np.int32))


def batches_read(feed, chunks):
    read = jax.jit(lambda *arguments: read_batch(*arguments))  # with a cache of its own
    for chunk in chunks:
        assert len(chunk["mask"]) == feed.batches
        for number in range(int(chunk["steps"])):
            yield jax.device_get(read(feed.arrays, chunk, number))
    assert read._cache_size() == 1


@pytest.mark.parametrize("placement", ["resident", "streamed"])
@pytest.mark.parametrize("batches", [1, 4, 6, 100])
def test_every_way_gives_the_same_batches_bit_for_bit(placement, batches):
    split = random_split()
    feed = make_feed(split, BATCH, batches, jax.devices()[0], placement)
    assert feed.resident == (placement == "resident")
    for epoch in (1, 2):
        expected = list(train_batches(split, BATCH, SEED, epoch))
        got = list(batches_read(feed, feed.train_chunks(SEED, epoch)))
        assert len(got) == len(expected) == 6
        for ours, theirs in zip(got, expected, strict=True):
            assert ours.keys() == theirs.keys()
            for key in theirs:
                assert ours[key].dtype == theirs[key].dtype
                np.testing.assert_array_equal(ours[key], theirs[key])
    scored = list(batches_read(feed, feed.eval_chunks()))
    for ours, theirs in zip(scored, eval_batches(split, BATCH), strict=True):
        np.testing.assert_array_equal(ours["image"], theirs["image"])


def test_what_fits_is_resident(monkeypatch):
    split, device = random_split(), jax.devices()[0]
    assert make_feed(split, BATCH, 1, device, "auto").resident
    monkeypatch.setattr("flaxlab.data.feed._RESIDENT_BYTES_ON_CPU", split.images.nbytes - 1)
    assert not make_feed(split, BATCH, 1, device, "auto").resident


def test_an_accelerator_keeps_room_for_the_model(monkeypatch):
    class Accelerator:
        limit = 0

        def memory_stats(self):
            return {"bytes_limit": self.limit, "bytes_in_use": 0}

    put = lambda tree, device: tree  # noqa: E731
    monkeypatch.setattr(jax, "device_put", put)
    split, device = random_split(), Accelerator()
    device.limit = 4 * split.images.nbytes
    assert make_feed(split, BATCH, 1, device, "auto").resident
    device.limit -= 4
    assert not make_feed(split, BATCH, 1, device, "auto").resident


def test_streaming_works_ahead_on_another_thread_and_passes_errors_on():
    made, ready = [], threading.Event()

    def items():
        for number in range(5):
            made.append((number, threading.current_thread()))
            if number == 1:
                ready.set()
            yield number
        raise OSError("the disk is gone")

    ahead = _ahead(items(), 2)
    assert next(ahead) == 0
    assert ready.wait(10)  # the second one is made without being asked for
    assert made[0][1] is not threading.main_thread()
    assert [next(ahead) for _ in range(4)] == [1, 2, 3, 4]
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead)


def test_runs_do_not_depend_on_how_they_are_fed(tmp_path):
    ways = {
        "resident": {"data.placement": "resident"},
        "streamed": {"data.placement": "streamed"},
        "in twos": {"data.placement": "resident", "train.steps_per_execution": 2},
        "in fours, streamed": {"data.placement": "streamed", "train.steps_per_execution": 4},
    }
    parameters, histories = {}, {}
    for way, overrides in ways.items():
        experiment = assemble(small_config(**overrides), small_dataset())
        result = fit(experiment, tmp_path / way)
        assert result.programs.train._cache_size() == 1
        assert result.programs.evaluate._cache_size() == 1
        parameters[way] = jax.tree.leaves(result.state.params)
        with open(tmp_path / way / "history.csv") as file:
            histories[way] = [row["val_accuracy"] for row in csv.DictReader(file)]
    for way in ways:
        assert histories[way] == histories["resident"]
        # A loop is another program, which may round in another order.
        tolerance = 0 if way == "streamed" else 2e-5
        for ours, theirs in zip(parameters[way], parameters["resident"], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def test_a_profile_is_written(tmp_path):
    experiment = assemble(small_config(**{"train.profile": True}), small_dataset())
    fit(experiment, tmp_path)
    (trace,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    assert trace.stat().st_size > 1000
    assert json.loads((tmp_path / "config.json").read_text())["train"]["profile"] is True
