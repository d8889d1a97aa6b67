"""Fair tuning: what is tried, what is chosen, and both verdicts on the page."""

import json

import pytest

from flaxlab.compare.runs import find_runs
from flaxlab.errors import RunFailed, UsageError
from flaxlab.suite.__main__ import main
from flaxlab.suite.plan import folder_name, plan_suite
from flaxlab.suite.tuning import (
    Trials,
    describe_trials,
    other_trials,
    plan_at_best,
    read_trials,
    trial_name,
    trials_of,
)
from tests.helpers.finished_runs import write_run
from tests.helpers.runs import SMALL_RUN

RATES = "(0.005, 0.001)"
FILE = """
from flaxlab.suite.definition import Suite
from flaxlab.suite.designs import sweep


def get_suite():
    return Suite(
        name="tried",
        baseline="alexnet_pool",
        arms=sweep("model.norm", ("none",)),
        tuned=("optimizer.learning_rate", RATES),
    )
"""


def suite_file(folder, rates=RATES):
    path = folder / "tried.py"
    path.write_text(FILE.replace("RATES", rates))
    return path


def test_each_arm_tries_each_value_once_on_a_holdout(tmp_path):
    plan = plan_suite(suite_file(tmp_path), 3, ["--config.seed=5"])
    trials = trials_of(plan)
    assert [arm.name for arm in trials.arms] == [
        "alexnet_pool learning_rate=0.005",
        "alexnet_pool learning_rate=0.001",
        "norm=none learning_rate=0.005",
        "norm=none learning_rate=0.001",
    ]
    assert trials.seeds == (5,)
    assert {arm.config.data.validation for arm in trials.arms} == {"holdout"}
    assert [arm.config.optimizer.learning_rate for arm in trials.arms] == [0.005, 0.001] * 2
    assert [arm.config.model.norm for arm in trials.arms] == ["batch", "batch", "none", "none"]
    assert (trials.tuned, trials.claims, trials.factors) == (None, {}, {})


def test_the_best_value_is_the_highest_and_of_equals_the_arms_own():
    assert Trials({0.1: 0.8, 0.01: 0.9, 0.001: None}, own=0.001).best == 0.01
    assert Trials({0.1: 0.9, 0.01: 0.9}, own=0.01).best == 0.01
    assert Trials({0.1: 0.9, 0.01: 0.9}, own=0.5).best == 0.1


def write_trials(plan, folder, accuracies):
    """Writes finished trials, and one that diverged for each None."""
    for arm, row in zip(plan.arms, accuracies, strict=True):
        for value, accuracy in zip(plan.tuned[1], row, strict=True):
            name = trial_name(plan, arm, value)
            run = folder / folder_name(name) / "seed_0"
            write_run(
                run, "alexnet_pool", 0, [accuracy or 0.1], extra={"best_val_accuracy": accuracy}
            )
            config = json.loads((run / "config.json").read_text())
            (run / "config.json").write_text(json.dumps({**config, "name": name}))
            if accuracy is None:
                (run / "summary.json").unlink()
                (run / "failure.txt").write_text("flaxlab.errors.Diverged: NaN\n")


def test_arms_are_planned_at_their_best(tmp_path):
    plan = plan_suite(suite_file(tmp_path), 3, [])
    write_trials(plan, tmp_path / "trials", [(0.8, 0.9), (0.7, None)])
    trials = read_trials(plan, tmp_path / "trials")
    best = plan_at_best(plan, trials)
    assert [arm.name for arm in best.arms] == ["alexnet_pool", "norm=none"]
    assert [arm.config.optimizer.learning_rate for arm in best.arms] == [0.001, 0.005]
    assert {arm.config.data.validation for arm in best.arms} == {"test"}
    assert best.seeds == (0, 1, 2)
    assert best.vary == ("model.norm", "optimizer.learning_rate")


def test_trials_of_an_earlier_grid_are_told(tmp_path):
    before = plan_suite(suite_file(tmp_path), 3, [])
    write_trials(before, tmp_path / "trials", [(0.8, 0.9), (0.7, None)])
    assert other_trials(before, tmp_path / "trials") == []
    said = describe_trials(before, read_trials(before, tmp_path / "trials"))
    assert not any("Tried as well" in line for line in said)

    now = plan_suite(suite_file(tmp_path, "(0.02, 0.01)"), 3, [])
    write_trials(now, tmp_path / "trials", [(0.8, 0.9), (0.7, 0.6)])
    others = other_trials(now, tmp_path / "trials")
    assert others == [
        f"{arm} learning_rate={rate}"
        for arm in ("alexnet_pool", "norm=none")
        for rate in (0.001, 0.005)
    ]
    *_, last = describe_trials(now, read_trials(now, tmp_path / "trials"), others)
    assert last.startswith("Tried as well, before the suite's file was changed")
    assert last.endswith(f"{', '.join(others)}.")


def test_an_arm_that_diverges_with_every_value_is_told(tmp_path):
    plan = plan_suite(suite_file(tmp_path), 3, [])
    write_trials(plan, tmp_path / "trials", [(0.8, 0.9), (None, None)])
    with pytest.raises(RunFailed, match=r"norm=none diverged with each of .*learning_rate"):
        read_trials(plan, tmp_path / "trials")


def test_a_trial_that_is_missing_or_another_runs_is_not_taken_for_divergence(tmp_path):
    plan = plan_suite(suite_file(tmp_path), 3, [])
    write_trials(plan, tmp_path / "trials", [(0.8, 0.9), (0.7, 0.6)])
    lost = tmp_path / "trials" / folder_name("norm=none learning_rate=0.001") / "seed_0"
    lost.rename(lost.with_name("seed_7"))
    write_run(tmp_path / "trials/of/seed_0", "alexnet_pool", 0, [0.9])  # of an earlier value
    with pytest.raises(RunFailed, match=r"did not finish: .*learning_rate.*0\.001"):
        read_trials(plan, tmp_path / "trials")


@pytest.mark.parametrize(
    ("rates", "options", "message"),
    [
        ("(0.1,)", [], "two or more values"),
        ("(0.1, 0.1)", [], "two or more values"),
        ("[0.1, 0.2]", [], "two or more values"),
        ("(0.1, -1.0)", [], "expected a number above 0"),
        ('("a", "b")', [], "is of the wrong kind"),
        (RATES, ["--until=decided"], "leave the option out"),
        (RATES, ["--arms=alexnet_pool"], "leave the option out"),
    ],
)
def test_a_wrong_tuning_is_one_line(tmp_path, rates, options, message):
    with pytest.raises(UsageError, match=message):
        main([f"--config={suite_file(tmp_path, rates)}", *options, *SMALL_RUN])


@pytest.mark.parametrize("path", ["model.norm", "seed", "data.validation"])
def test_a_field_that_cannot_be_tuned_is_one_line(tmp_path, path):
    file = suite_file(tmp_path)
    file.write_text(file.read_text().replace("optimizer.learning_rate", path))
    with pytest.raises(UsageError, match="tune another field"):
        plan_suite(file, 2, [])


def test_both_verdicts_are_on_both_pages_and_no_run_is_made_twice(tmp_path, capsys):
    """The second rate diverges at once, so that both arms keep the one they have.

    It is near the largest float32. With 1e30 it depends on the processor whether a number is NaN.
    """
    path = suite_file(tmp_path, "(0.005, 3e38)")
    command = [f"--config={path}", f"--workdir={tmp_path / 'tried'}", "--seeds=2", *SMALL_RUN]
    main([*command, "--config.train.epochs=1"])
    tuning, _ = find_runs([tmp_path / "tried_tuning"])
    assert {run.config.optimizer.learning_rate for run in tuning} == {0.005}
    for own, other in (("tried", "tried_at_best"), ("tried_at_best", "tried")):
        page = (tmp_path / own / "comparison.md").read_text()
        assert "Tuned on a holdout of the training split, optimizer.learning_rate" in page
        assert "alexnet_pool 0.005 (0.005: " in page
        assert "3e+38: diverged)" in page
        assert f"{other}/comparison.html: norm=none: " in page
        assert "4 runs, 4 epochs in all" in page
    given, best = (
        {path.parent.name: path.read_text() for path in (tmp_path / name).rglob("history.csv")}
        for name in ("tried", "tried_at_best")
    )
    assert given == best  # seconds included: they are copies
    capsys.readouterr()
    main([*command, "--config.train.epochs=1"])
    assert "train loss" not in capsys.readouterr().out


def test_arms_that_diverge_as_given_are_compared_at_their_best(tmp_path):
    path = suite_file(tmp_path)
    small = [*SMALL_RUN, "--config.train.epochs=1", "--config.optimizer.learning_rate=3e38"]
    command = [f"--config={path}", f"--workdir={tmp_path / 'tried'}", "--seeds=1", *small]
    with pytest.raises(RunFailed, match="2 of 2 runs"):
        main(command)
    page = (tmp_path / "tried_at_best/comparison.md").read_text()
    assert "Tuned on a holdout" in page
    assert "norm=none" in page
