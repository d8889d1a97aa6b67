"""The learning-rate range test: what it takes, what it reads off, and what it writes."""

import csv

import numpy as np
import pytest

from flaxlab.errors import RunFailed, UsageError
from flaxlab.rates.__main__ import main
from flaxlab.rates.growth import RangeTest, range_test
from flaxlab.training.experiment import assemble
from flaxlab.training.loop import Hooks as LoopHooks
from flaxlab.training.loop import Progress, train_epoch
from flaxlab.training.programs import compile_training
from tests.helpers.runs import EXPERIMENTS, small_config, small_dataset


def shown(losses, rates=None):
    rates = np.geomspace(1e-4, 1, len(losses)) if rates is None else rates
    losses = np.asarray(losses, float)
    return RangeTest(rates, losses, losses, diverged=False)


def test_the_first_losses_are_those_of_training_with_these_rates():
    """Against the loop itself, with the schedule written out."""
    config = small_config(**{"optimizer.name": "sgd", "optimizer.momentum": 0.0})
    dataset = small_dataset()
    found = range_test(config, dataset, 1e-3, 1e-1, 6)
    rates = [1e-3 * 10 ** (2 * step / 5) for step in range(6)]
    np.testing.assert_allclose(found.rates, rates, rtol=1e-6)
    experiment = assemble(config, dataset, schedule=lambda step: 1e-3 * 10 ** (2 * step / 5))
    sums = []

    class Record(LoopHooks):
        def after_step(self, state, progress):
            sums.append((float(progress.totals.loss), int(progress.totals.count)))

    train = compile_training(experiment.train_step, experiment.devices)
    state = experiment.devices.put(experiment.create_state())
    for epoch in (1, 2):
        state, _ = train_epoch(
            train, state, experiment.feeds().train, 0, Progress.beginning(epoch), Record()
        )
    expected = []
    for before, after in zip([(0.0, 0), *sums], sums, strict=False):
        start = (0.0, 0) if after[1] <= before[1] else before  # a new epoch
        expected.append((after[0] - start[0]) / (after[1] - start[1]))
    np.testing.assert_allclose(found.losses, expected[:6], rtol=1e-4)


def test_it_stops_where_the_loss_diverges():
    config = small_config(**{"optimizer.name": "sgd", "optimizer.momentum": 0.0})
    found = range_test(config, small_dataset(), 1e-3, 1e6, 30)
    assert found.diverged
    assert len(found.rates) < 30
    assert np.isfinite(found.losses).all()


def test_rates_are_read_off_the_curve():
    # Flat, then falling by 1 a decade from 1e-3 on, steepest at 1e-2, and rising from 1e-1 on.
    rates = np.geomspace(1e-5, 1, 51)
    losses = np.interp(np.log10(rates), [-5, -3, -2.5, -1.5, -1, 0], [2, 2, 1.7, 0.4, 0.3, 2])
    found = shown(losses, rates)
    assert 10**-2.5 <= found.steepest <= 10**-1.5
    assert found.largest == pytest.approx(0.1, rel=0.3)
    assert shown(losses[:41], rates[:41]).largest is None
    assert shown(np.linspace(1, 2, 51)).steepest is None
    assert shown([2.0, 1.0, 3.0]).steepest is None


def test_the_command_writes_a_table_and_a_picture(tmp_path, capsys):
    main(
        [
            f"--config={EXPERIMENTS / 'digits_small.py'}",
            f"--to={tmp_path / 'rates'}",
            "--steps=30",
            "--low=1e-5",
            "--high=1",
        ]
    )
    shown = capsys.readouterr().out
    assert "the experiment has 0.001" in shown
    assert (tmp_path / "rates/rates.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "rates/rates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["rate"]) == pytest.approx(1e-5)
    assert 2 < float(rows[0]["loss"]) < 3  # of guessing ten classes: 2.3


@pytest.mark.parametrize(
    "wrong", [["--low=1", "--high=0.1"], ["--steps=1"], ["--low=0"], ["--config.seed=x"]]
)
def test_wrong_input_is_one_line(tmp_path, wrong):
    config = f"--config={EXPERIMENTS / 'digits_small.py'}"
    with pytest.raises(UsageError):
        main([config, f"--to={tmp_path / 'rates'}", *wrong])
    assert not (tmp_path / "rates").exists()


def test_a_loss_that_is_no_number_from_the_start_is_told(monkeypatch):
    monkeypatch.setattr(
        "flaxlab.rates.growth._losses", lambda experiment: (x for x in [float("nan")])
    )
    with pytest.raises(RunFailed, match="the first batch is not a number"):
        range_test(small_config(), small_dataset(), 1e-3, 1e-1, 6)
