"""The loop by itself: written out by hand, without hooks, and with hooks that end it."""

import jax
import numpy as np
import pytest

from flaxlab.batches.order import eval_batches, train_batches
from flaxlab.training.experiment import assemble
from flaxlab.training.loop import Hooks, Progress, Start, fit
from flaxlab.training.metrics import means, no_metrics
from flaxlab.training.programs import compile_programs
from tests.helpers.comparing import assert_close, assert_same_bits, without_times
from tests.helpers.runs import SGD, run_small, small_config, small_dataset


def fit_alone(experiment, *hooks):
    programs = compile_programs(experiment)
    state = experiment.devices.put(experiment.create_state())
    start = Start(state, [], Progress.beginning(1))
    return fit(experiment, programs, experiment.feeds(), start, *hooks)


def test_the_loop_is_the_one_that_chapter_1_writes_out():
    experiment = assemble(small_config(**SGD), small_dataset())
    step, score = jax.jit(experiment.train_step), jax.jit(experiment.eval_step)
    expected, rows = experiment.create_state(), []
    for epoch in range(1, 4):
        trained, scored = no_metrics(), no_metrics()
        for batch in train_batches(experiment.splits.train, 8, seed=0, epoch=epoch):
            expected, metrics = step(expected, batch)
            trained += metrics
        for batch in eval_batches(experiment.splits.validation, 8):
            scored += score(expected, batch)[0]
        rows.append((means(trained)["loss"], means(scored)["accuracy"]))
    state, history, scores = fit_alone(experiment)
    assert_close(state.params, expected.params, atol=1e-5)
    np.testing.assert_allclose([row.train_loss for row in history], [row[0] for row in rows], 1e-5)
    assert [row.val_accuracy for row in history] == [row[1] for row in rows]
    assert scores.accuracy == rows[-1][1]


def test_a_run_adds_nothing_to_the_numbers_of_the_loop(tmp_path):
    state, history, scores = fit_alone(assemble(small_config(), small_dataset()))
    run = run_small(tmp_path)
    assert_same_bits(state, run.state)
    assert without_times(history) == without_times(run.history)
    assert scores.logits.tobytes() == run.test_scores.logits.tobytes()


def test_hooks_are_called_after_every_step_batch_and_epoch():
    class Counting(Hooks):
        def __init__(self):
            self.calls = []

        def after_step(self, state, progress):
            self.calls.append(("step", int(state.step), progress.epoch, progress.steps))

        def after_batch(self, totals):
            self.calls.append(("batch", int(totals.count)))

        def after_epoch(self, state, history):
            self.calls.append(("epoch", len(history)))

    hooks = Counting()
    fit_alone(assemble(small_config(**{"train.epochs": 2}), small_dataset()), hooks)
    scoring = [("batch", 8), ("batch", 10)]
    first = [("step", n, 1, n) for n in (1, 2, 3)]
    second = [("step", 3 + n, 2, n) for n in (1, 2, 3)]
    assert hooks.calls == [*first, *scoring, ("epoch", 1), *second, *scoring, ("epoch", 2)]


def test_nothing_is_left_to_train_after_the_last_epoch():
    experiment = assemble(small_config(**{"train.epochs": 1}), small_dataset())
    state, history, _ = fit_alone(experiment)
    programs = compile_programs(experiment)
    start = Start(state, history, Progress.beginning(2))
    again, same, scores = fit(experiment, programs, experiment.feeds(), start)
    assert (again, same, scores) == (state, history, None)


def test_a_hook_that_raises_ends_the_loop():
    class Ending(Hooks):
        def after_step(self, state, progress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_alone(assemble(small_config(), small_dataset()), Ending())
