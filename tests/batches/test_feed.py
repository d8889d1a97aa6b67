"""Resident, streamed and stacked: the same batches, the same run, one program."""

import csv
import threading
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxlab.batches.devices import Devices, one_device
from flaxlab.batches.feed import _ahead, make_feed, take_batch
from flaxlab.batches.order import eval_batches, train_batches
from flaxlab.data.dataset import Split
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble
from flaxlab.training.loop import score
from flaxlab.training.metrics import no_metrics
from flaxlab.training.programs import compile_evaluation, compile_training
from tests.helpers.comparing import assert_same_bits
from tests.helpers.runs import Listener, small_config, small_dataset

EXAMPLES, BATCH, SEED = 21, 4, 3  # six batches, the last one of a single example


def random_split():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (EXAMPLES, 5, 7, 3), dtype=np.uint8)
    return Split(images, rng.integers(0, 9, EXAMPLES).astype(np.int32))


def batches_read(stacks):
    read = jax.jit(lambda batches, number: take_batch(batches, number, one_device()))
    for batches in stacks:
        for number in range(len(batches["mask"])):
            yield jax.device_get(read(batches, number))


@pytest.mark.parametrize("placement", ["resident", "streamed", "grain"])
@pytest.mark.parametrize("batches", [1, 4, 6, 100])
def test_every_way_gives_the_same_batches_bit_for_bit(placement, batches):
    split = random_split()
    feed = make_feed(split, BATCH, batches, one_device(), placement)
    assert bool(feed.resident) == (placement == "resident")
    for epoch in (1, 2):
        expected = list(train_batches(split, BATCH, SEED, epoch))
        got = list(batches_read(feed.train_batches(SEED, epoch)))
        assert len(got) == len(expected) == 6
        for ours, theirs in zip(got, expected, strict=True):
            assert ours.keys() == theirs.keys()
            for key in theirs:
                assert ours[key].dtype == theirs[key].dtype
                np.testing.assert_array_equal(ours[key], theirs[key])
    scored = list(batches_read(feed.eval_batches()))
    for ours, theirs in zip(scored, eval_batches(split, BATCH), strict=True):
        np.testing.assert_array_equal(ours["image"], theirs["image"])


def test_what_fits_is_resident(monkeypatch):
    split, devices = random_split(), one_device()
    assert make_feed(split, BATCH, 1, devices, "auto").resident
    monkeypatch.setattr("flaxlab.batches.feed._RESIDENT_BYTES_ON_CPU", split.images.nbytes - 1)
    assert not make_feed(split, BATCH, 1, devices, "auto").resident


def test_an_accelerator_keeps_room_for_the_model(monkeypatch):
    class Accelerator:
        limit = 0

        def memory_stats(self):
            return {"bytes_limit": self.limit, "bytes_in_use": 0}

    split, device, devices = random_split(), Accelerator(), Mock(shared=False)
    devices.mesh.local_devices = [device]
    device.limit = 4 * split.images.nbytes
    assert make_feed(split, BATCH, 1, devices, "auto").resident
    device.limit -= 4
    assert not make_feed(split, BATCH, 1, devices, "auto").resident


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


def test_another_placement_is_refused():
    with pytest.raises(ValueError, match="expected resident, streamed, grain or auto"):
        make_feed(random_split(), BATCH, 1, one_device(), "here")


def test_closing_a_stream_ends_its_thread():
    feed = make_feed(random_split(), BATCH, 1, one_device(), "streamed")
    before = threading.active_count()
    stream = feed.train_batches(SEED, 1)
    next(stream)
    assert threading.active_count() == before + 1
    stream.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("placement", ["resident", "streamed"])
@pytest.mark.parametrize("stacked", [1, 4, 100])
def test_the_program_sees_the_batches_in_order(placement, stacked):
    def train_step(state, batch):
        """Hashes all that it sees, in the order in which it sees it."""
        for key in ("image", "label", "mask"):
            values = batch[key].astype(jnp.uint32).ravel()
            places = jnp.arange(1, values.size + 1, dtype=jnp.uint32)
            state = state * jnp.uint32(31) + jnp.sum(values * places)
        return state, no_metrics()

    split, devices = random_split(), one_device()
    expected = np.uint32(7)
    for batch in train_batches(split, BATCH, SEED, 1):
        expected, _ = train_step(expected, {key: jnp.asarray(x) for key, x in batch.items()})
    program = compile_training(train_step, devices)
    feed = make_feed(split, BATCH, stacked, devices, placement)
    state, totals = devices.put((jnp.uint32(7), no_metrics()))
    for batches in feed.train_batches(SEED, 1):
        state, totals = program(state, totals, batches)
    assert int(state) == int(expected)


def test_scores_do_not_depend_on_how_many_batches_a_call_takes():
    experiment = assemble(small_config(), small_dataset(test=19))
    state = experiment.create_state()
    evaluate = compile_evaluation(experiment.eval_step, experiment.devices)
    split, found = experiment.splits.validation, []
    for stacked, placement in ((1, "streamed"), (3, "resident"), (2, "streamed")):
        feed = make_feed(split, BATCH, stacked, experiment.devices, placement)
        found.append(score(evaluate, state, feed))
    for each in found[1:]:
        assert each.accuracy == found[0].accuracy
        assert each.loss == pytest.approx(found[0].loss)
        np.testing.assert_allclose(each.logits, found[0].logits, rtol=1e-5)
        np.testing.assert_array_equal(each.labels, found[0].labels)


def test_scoring_several_batches_at_once_is_not_for_pmap():
    devices = Devices(one_device().mesh, mapped=True)
    feed = make_feed(random_split(), BATCH, 2, devices, "streamed")
    with pytest.raises(ValueError, match="under pmap, scoring takes a feed of one batch"):
        score(compile_evaluation(None, one_device()), None, feed)


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
        result = train(experiment, tmp_path / way)
        # Two steps and then one: the shorter last call is the only second program.
        assert result.programs.train._cache_size() == (2 if way == "in twos" else 1)
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


def test_a_profile_is_written_once_a_second_call_is_made(tmp_path, caplog):
    profiled = {"train.profile": True, "train.steps_per_execution": 3, "train.epochs": 2}
    train(assemble(small_config(**profiled), small_dataset()), tmp_path)  # one call an epoch
    (trace,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    assert trace.stat().st_size > 1000
    once = {**profiled, "train.epochs": 1}
    train(assemble(small_config(**once), small_dataset()), tmp_path / "once")
    assert not (tmp_path / "once/profile").exists()
    assert "called only once" in caplog.text


def test_a_profile_ends_with_the_run(tmp_path):
    class Stop(Listener):
        def epoch_done(self, row):
            raise KeyboardInterrupt

    for number in range(2):  # a trace that was left open would refuse the next one
        experiment = assemble(small_config(**{"train.profile": True}), small_dataset())
        with pytest.raises(KeyboardInterrupt):
            train(experiment, tmp_path / str(number), [Stop()])
        assert list((tmp_path / str(number) / "profile").rglob("*.trace.json.gz"))


def test_a_resumed_run_may_be_fed_another_way(tmp_path):
    for epochs, placement in ((1, "resident"), (2, "streamed")):
        config = small_config(**{"data.placement": placement, "train.epochs": epochs})
        resumed = train(assemble(config, small_dataset()), tmp_path / "resumed")
    both = assemble(small_config(**{"train.epochs": 2}), small_dataset())
    whole = train(both, tmp_path / "whole")
    assert_same_bits(resumed.state, whole.state)
