"""steps.csv: against steps taken one by one, and the same whatever happened to its run."""

import csv
import dataclasses
import functools
import math
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flaxlab.checkpoints.save import Checkpoints
from flaxlab.errors import Interrupted, RunFailed
from flaxlab.run.run import train
from flaxlab.run.steps import STEPS_FILE, StepRow, StepSeries, read_steps
from flaxlab.run.tensorboard import TensorBoardLog
from flaxlab.training.experiment import assemble
from flaxlab.training.loop import Progress
from flaxlab.training.metrics import no_metrics
from flaxlab.training.programs import compile_programs
from tests.helpers.runs import Listener, small_config, small_dataset, stop_at

# Two epochs of 13 steps, the last of a smaller batch.
EPOCHS, STEPS = 2, 13
DATA = small_dataset(train=99)


@functools.cache
def programs():
    """The programs of all runs here: how often there is a row is nothing to them."""
    experiment = assemble(small_config(), DATA)
    return compile_programs(experiment)


def run(workdir, reporters=(), stop=lambda: None, **overrides):
    config = small_config(**{"train.epochs": EPOCHS, **overrides})
    shared = programs() if "optimizer.learning_rate" not in overrides else None
    return train(assemble(config, DATA), workdir, reporters, shared, stop)


def test_the_rate_is_that_of_the_plateau_too(tmp_path):
    """As in the history, whose row is about the last step of the epoch."""
    falling = {"optimizer.schedule": "plateau", "optimizer.plateau_patience": 1}
    recipe = {**falling, "optimizer.learning_rate": 1e-9, "optimizer.step_factor": 0.5}
    history = run(tmp_path, **recipe, **{"train.epochs": 4, "log.every_steps": 13}).history
    rates = [row.learning_rate for row in read_steps(tmp_path / STEPS_FILE)]
    assert rates == pytest.approx([row.learning_rate for row in history], rel=1e-6)
    assert rates[-1] < rates[0]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The text of steps.csv of a run that never stopped, with a row every three steps."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    run(workdir, **{"log.every_steps": 3})
    return (workdir / STEPS_FILE).read_text()


def test_the_rows_are_the_means_of_steps_taken_one_by_one(tmp_path):
    experiment = assemble(small_config(**{"train.epochs": EPOCHS}), DATA)
    state, feed = experiment.create_state(), experiment.feeds().train
    step = jax.jit(experiment.train_step)
    taken = []
    for epoch in range(1, EPOCHS + 1):
        for batches in feed.train_batches(0, epoch):
            images = batches["resident"]["image"][batches["index"][0]]
            labels = batches["resident"]["label"][batches["index"][0]]
            batch = {"image": images, "label": labels, "mask": batches["mask"][0]}
            state, metrics = step(state, batch)
            taken.append([float(metrics.loss), int(metrics.correct), int(metrics.count)])
    run(tmp_path, **{"log.every_steps": 5})
    rows = read_steps(tmp_path / STEPS_FILE)
    groups = [(0, 5), (5, 10), (10, 13), (13, 18), (18, 23), (23, 26)]
    assert [(row.step, row.epoch) for row in rows] == [(e, 1 + (e > STEPS)) for _, e in groups]
    for row, (begin, end) in zip(rows, groups, strict=True):
        loss, correct, count = np.sum(taken[begin:end], axis=0)
        assert row.train_loss == pytest.approx(loss / count, rel=1e-5)
        assert row.train_accuracy == correct / count
        assert row.learning_rate == 1e-3


def feed(series, steps):
    """Has a series see calls of the program that end with these steps of the second epoch."""
    for number in steps:
        series.after_step(None, Progress(2, number, no_metrics().replace(count=jnp.int32(number))))
    return series.take()


@pytest.mark.parametrize(
    ("every", "calls", "expected"),
    [
        (1, range(1, STEPS + 1), range(1, STEPS + 1)),
        (5, range(1, STEPS + 1), [5, 10, 13]),
        (4, [3, 6, 9, 12, 13], [6, 9, 12, 13]),
        (100, [6, 12, 13], [13]),
        (1, [13], [13]),
        (0, [6, 12, 13], []),
        (None, range(1, STEPS + 1), range(1, STEPS + 1)),
    ],
)
def test_how_often_there_is_a_row(tmp_path, every, calls, expected):
    experiment = assemble(small_config(**{"log.every_steps": every}), DATA)
    rows = feed(StepSeries(experiment, tmp_path / STEPS_FILE, 1, 0, None), calls)
    assert [row.step - STEPS for row in rows] == [*expected]
    assert read_steps(tmp_path / STEPS_FILE) == rows
    assert (tmp_path / STEPS_FILE).exists() == bool(rows)


@pytest.mark.parametrize(("examples", "every"), [(49, 1), (50, 1), (51, 2), (60, 2), (101, 3)])
def test_an_epoch_has_at_most_fifty_rows_by_default(tmp_path, examples, every):
    config = small_config(**{"train.batch_size": 1})
    experiment = assemble(config, small_dataset(train=examples))
    rows = feed(StepSeries(experiment, tmp_path / STEPS_FILE, 1, 0, None), range(1, examples + 1))
    expected = {*range(every, examples + 1, every), examples}
    assert [row.step - examples for row in rows] == sorted(expected)
    assert len(rows) <= 50


def test_the_learning_rates_are_those_of_the_schedule(tmp_path):
    overrides = {"optimizer.schedule": "one_cycle", "train.epochs": EPOCHS}
    experiment = assemble(small_config(**overrides), DATA)
    rows = feed(StepSeries(experiment, tmp_path / STEPS_FILE, 1, 0, None), range(1, STEPS + 1))
    schedule = optax.cosine_onecycle_schedule(EPOCHS * STEPS, 1e-3)
    for row in rows:
        assert row.learning_rate == pytest.approx(float(schedule(row.step - 1)), rel=1e-5)
    assert [row.step for row in rows] == list(range(STEPS + 1, 2 * STEPS + 1))


class StopWhere(Listener):
    """Ends the run, as a killed process does, once a row beyond some step is written."""

    def __init__(self, step):
        self.step = step

    def steps_written(self, rows):
        if rows[-1].step >= self.step:
            raise KeyboardInterrupt


# The steps between two checkpoints within an epoch, and where the run is killed.
@pytest.mark.parametrize(("every", "stops"), [(0, (26,)), (1, (7, 9, 13)), (4, (7, 20))])
def test_a_killed_and_resumed_run_has_each_row_once(tmp_path, undisturbed, every, stops):
    overrides = {"log.every_steps": 3, "checkpoint.every_steps": every}
    for step in stops:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, [StopWhere(step)], **overrides)
    run(tmp_path, **overrides)
    assert (tmp_path / STEPS_FILE).read_text() == undisturbed


@pytest.mark.parametrize("count", [4, 14, 16])  # within an epoch, while it is scored, after it
def test_a_stopped_and_resumed_run_has_each_row_once(tmp_path, undisturbed, count):
    with pytest.raises(Interrupted):
        run(tmp_path, stop=stop_at(count), **{"log.every_steps": 3})
    assert undisturbed.startswith((tmp_path / STEPS_FILE).read_text())
    run(tmp_path, **{"log.every_steps": 3})
    assert (tmp_path / STEPS_FILE).read_text() == undisturbed


def test_a_run_goes_on_from_a_checkpoint_that_knows_of_no_rows(tmp_path, monkeypatch):
    with pytest.raises(Interrupted):
        run(tmp_path, stop=stop_at(4), **{"log.every_steps": 3})
    (tmp_path / STEPS_FILE).unlink()
    newest = Checkpoints.newest

    def older(self):
        found = newest(self)
        del found.record["part"]["mark"]
        return found

    monkeypatch.setattr(Checkpoints, "newest", older)
    run(tmp_path, **{"log.every_steps": 3})
    steps = [row.step for row in read_steps(tmp_path / STEPS_FILE)]
    assert steps == [6, 9, 12, 13, 16, 19, 22, 25, 26]


def test_a_file_whose_end_is_damaged_is_mended(tmp_path, undisturbed):
    with pytest.raises(Interrupted):
        run(tmp_path, stop=stop_at(9), **{"log.every_steps": 3})
    with (tmp_path / STEPS_FILE).open("ab") as file:
        file.write(b"12,1,0.5\0\0\0")
    run(tmp_path, **{"log.every_steps": 3})
    assert (tmp_path / STEPS_FILE).read_text() == undisturbed


def test_a_run_that_begins_again_forgets_the_rows_of_another(tmp_path, undisturbed):
    (tmp_path / STEPS_FILE).write_text("step\n1,1,9.0,0.0,0.1\n")
    run(tmp_path, **{"log.every_steps": 3})
    assert (tmp_path / STEPS_FILE).read_text() == undisturbed
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / STEPS_FILE).write_text(undisturbed)
    run(tmp_path / "other", **{"log.every_steps": 0})
    assert not (tmp_path / "other" / STEPS_FILE).exists()


def test_a_finished_run_keeps_its_rows(tmp_path, undisturbed):
    for every in (3, 0):
        run(tmp_path, **{"log.every_steps": every})
        assert (tmp_path / STEPS_FILE).read_text() == undisturbed


def test_rows_that_could_not_be_written_are_written_later(tmp_path, caplog):
    path = tmp_path / STEPS_FILE
    series = StepSeries(assemble(small_config(), DATA), path, 1, 0, None)
    rows = feed(series, range(1, 4))
    path.unlink()
    path.mkdir()  # in the way
    rows += feed(series, range(4, 6)) + feed(series, range(6, 8))
    path.rmdir()
    rows += feed(series, range(8, 10)) + feed(series, range(10, 12))
    assert caplog.text.count("steps.csv could not be written (Is a directory)") == 1
    assert read_steps(path) == rows
    assert len(rows) == 11


def test_reporters_and_tensorboard_get_every_row(tmp_path):
    found = []

    class Keep(Listener):
        def steps_written(self, rows):
            found.extend(rows)

    run(tmp_path, [Keep(), TensorBoardLog(tmp_path)], **{"log.every_steps": 3})
    assert found == read_steps(tmp_path / STEPS_FILE)
    (events,) = tmp_path.glob("events.out.tfevents*")
    content = events.read_bytes()
    for tag in (b"steps/loss", b"steps/accuracy", b"steps/learning_rate"):
        assert content.count(tag) == len(found) == 10


def test_the_row_of_a_run_that_diverges_shows_it(tmp_path):
    with pytest.raises(RunFailed, match="NaN or infinite"):
        run(tmp_path, **{"optimizer.learning_rate": 1e30, "log.every_steps": 13})
    (row,) = read_steps(tmp_path / STEPS_FILE)
    assert not math.isfinite(row.train_loss)


SUMS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=20)


@settings(max_examples=30, deadline=None)
@given(SUMS, st.integers(1, 7))
def test_rows_add_up_to_the_epoch(steps, every):
    """Each step adds to the sums, or nothing where it was skipped; losses are whole numbers."""
    data = small_dataset(train=max(len(steps), 1))
    experiment = assemble(small_config(**{"train.batch_size": 1, "log.every_steps": every}), data)
    totals, rows = no_metrics(), []
    with tempfile.TemporaryDirectory() as folder:
        series = StepSeries(experiment, Path(folder, STEPS_FILE), 0, 0, None)
        for number, (loss, correct, counts) in enumerate(steps, 1):
            new = {"loss": loss * counts, "correct": correct * counts, "count": 9 * counts}
            totals = totals + no_metrics().replace(**new)
            series.after_step(None, Progress(1, number, totals))
        rows = series.take()
    counts = [
        9 * sum(counted for *_, counted in steps[begin : row.step])
        for begin, row in zip([0, *(row.step for row in rows)], rows, strict=False)
    ]
    for row, count in zip(rows, counts, strict=True):
        assert math.isnan(row.train_loss) == (count == 0)
    whole = sum(row.train_loss * count for row, count in zip(rows, counts, strict=True) if count)
    assert whole == pytest.approx(float(totals.loss))


def test_the_columns_are_the_fields_of_a_row(tmp_path):
    run(tmp_path)
    with (tmp_path / STEPS_FILE).open(newline="") as file:
        assert next(csv.reader(file)) == [field.name for field in dataclasses.fields(StepRow)]
