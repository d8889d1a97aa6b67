"""Suites and sweeps run, skip, resume and refuse."""

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from rich.console import Console

from flaxlab.batches.order import train_batches
from flaxlab.claims import Claim, Statement
from flaxlab.command_line import run_command
from flaxlab.compare.suite_file import read_suite_file
from flaxlab.config.read import load_experiment
from flaxlab.errors import RunFailed, UsageError
from flaxlab.suite import runner
from flaxlab.suite import runs as suite_runs
from flaxlab.suite.__main__ import main
from flaxlab.suite.plan import Plan, plan_suite
from flaxlab.suite.progress import SuiteProgress
from flaxlab.suite.runs import list_runs
from flaxlab.training import experiment as experiments
from flaxlab.training import state
from tests.helpers.finished_runs import COMPARISON_FILES
from tests.helpers.processes import start
from tests.helpers.runs import (
    EXPERIMENTS,
    POOL_FILE,
    RUN_FILES,
    SMALL_SUITE,
    small_dataset,
    write_suite,
)

# One epoch of each run will do.
SMALL = [*SMALL_SUITE, "--config.train.epochs=1"]


def shown_since(capsys):
    return "".join(capsys.readouterr())


def test_a_suite_killed_half_way_resumes_and_finishes(tmp_path, capsys):
    file, workdir = write_suite(tmp_path, "('alexnet_no_dropout',)"), tmp_path / "runs"
    arguments = [f"--config={file}", f"--workdir={workdir}", "--seeds=2", *SMALL]
    killed = start("suite", *arguments)
    killed.wait_for(lambda: list(workdir.glob("*/*/summary.json")))
    killed.kill()
    done = {path: path.stat().st_mtime_ns for path in workdir.rglob("summary.json")}
    assert 1 <= len(done) < 4
    assert not (workdir / "comparison.html").exists()

    main(arguments)
    assert f"4 runs in {workdir}, {len(done)} of them finished" in shown_since(capsys)
    runs = sorted(path.parent for path in workdir.rglob("summary.json"))
    assert len(runs) == 4
    assert {run.parent.name for run in runs} == {"alexnet_default", "alexnet_no_dropout"}
    # The first may have been killed between its summary and giving back its lock.
    assert all({path.name for path in run.iterdir()} - {".lock"} == RUN_FILES for run in runs)
    # What was finished was left alone.
    assert all(path.stat().st_mtime_ns == changed for path, changed in done.items())
    assert {path.name for path in workdir.iterdir() if path.is_file()} == {
        "suite.json",
        *COMPARISON_FILES,
    }
    command = json.loads((runs[0] / "summary.json").read_text())["command"]
    assert command.startswith("python -m flaxlab.main --config=")
    assert "--config.seed=0" in command

    main(arguments)
    output = shown_since(capsys)
    assert "4 of them finished" in output
    assert "[" not in output.split("finished")[1].split("arm")[0]  # no run was started


def test_only_the_arms_that_are_asked_for_are_run(tmp_path, capsys):
    file, workdir = write_suite(tmp_path, "('alexnet_no_dropout',)"), tmp_path / "runs"
    arguments = [f"--config={file}", f"--workdir={workdir}", "--seeds=1", *SMALL]
    with pytest.raises(UsageError, match="--arms=alexnet_pool: the suite's arms are alexnet_def"):
        main([*arguments, "--arms=alexnet_default,alexnet_pool"])
    with pytest.raises(UsageError, match="--arms is for the arms of a suite file"):
        main([*arguments, "--arms=alexnet_default", "--until=decided"])
    main([*arguments, "--arms=alexnet_no_dropout"])
    assert "not compared: arm alexnet_default has no finished run" in shown_since(capsys)
    assert [path.parent.parent.name for path in workdir.rglob("summary.json")] == [
        "alexnet_no_dropout"
    ]
    main([*arguments, "--arms=alexnet_default"])
    assert (workdir / "comparison.html").is_file()
    assert set(read_suite_file(workdir).arms) == {"alexnet_default", "alexnet_no_dropout"}


def test_a_sweep_runs_and_is_compared(tmp_path, capsys):
    main(
        [
            f"--config={POOL_FILE}",
            f"--workdir={tmp_path}",
            "--seeds=2",
            "--sweep.optimizer.learning_rate=1e-2,1e-3",
            *SMALL,
        ]
    )
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        "learning_rate=0.01",
        "learning_rate=0.001",
    }
    markdown = (tmp_path / "comparison.md").read_text()
    row = next(row for row in markdown.splitlines() if row.startswith("| learning_rate=0.001 |"))
    assert " of 2 " in row
    assert "the baseline" in row
    digests = {json.loads(path.read_text())["suite"] for path in tmp_path.rglob("summary.json")}
    assert digests == {read_suite_file(tmp_path).digest}


def small_images():
    return small_dataset(48, 30, (28, 28, 1), classes=10)


def list_small(plan, workdir, dataset=None):
    """Lists the runs of a plan, on made-up images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite_runs, "load_dataset", lambda config: dataset or small_images())
        return list_runs(plan.arms, plan.seeds, workdir)


def do_small(plan, workdir):
    runs = list_small(plan, workdir)
    return runner.do_runs(runs, SuiteProgress(Console(width=200), "lines", runs))


class Finished(NamedTuple):
    """A suite of two arms and two seeds that is done.

    Attributes:
        plan: its plan.
        workdir: the folder of its runs; a test must not change it.
        traced: the training and evaluation steps that were traced for it, in order.
        drawn: how many programs that draw an initial state were loaded at its end.
    """

    plan: Plan
    workdir: Path
    traced: list[str]
    drawn: int


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    plan = plan_suite(write_suite(folder, "('alexnet_no_dropout',)"), 2, SMALL)
    traced, original = [], runner.compile_programs

    def compile_programs(experiment):
        def counted(step, name):
            def traced_step(state, batch):
                traced.append(name)
                return step(state, batch)

            return traced_step

        train_step = counted(experiment.train_step, "train")
        eval_step = counted(experiment.eval_step, "evaluate")
        return original(dataclasses.replace(experiment, train_step=train_step, eval_step=eval_step))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "compile_programs", compile_programs)
        assert do_small(plan, folder / "runs") == {}
    return Finished(plan, folder / "runs", traced, state._draw_state._cache_size())


@pytest.fixture
def own_copy(finished, tmp_path):
    """The plan of the finished suite, and a copy of its folder."""
    return finished.plan, shutil.copytree(finished.workdir, tmp_path / "runs")


def test_claims_are_written_before_the_first_run_and_stay(tmp_path, monkeypatch, caplog):
    statement = Statement("accuracy", 0.9, "alexnet_no_dropout")
    seen = []

    def fails(*arguments):
        seen.append(read_suite_file(tmp_path / "runs").claims)
        raise RunFailed("no room")

    def start_with(claim):
        claims = f", claims={{1: Claim({claim!r}, 'digits', ({statement!r},))}}"
        path = write_suite(tmp_path, "('alexnet_no_dropout',)", claims)
        with pytest.raises(RunFailed):
            main([f"--config={path}", f"--workdir={tmp_path / 'runs'}", "--seeds=2", *SMALL])

    monkeypatch.setattr(runner, "train_and_report", fails)
    start_with("It falls.")
    assert "changed since" not in caplog.text
    start_with("It falls a little.")
    assert seen == [{1: Claim("It falls.", "digits", (statement,))}] * 8
    assert "warning: claim 1 of the suite mine changed since" in caplog.text
    assert read_suite_file(tmp_path / "runs").changed == ("claim 1",)


def test_looks_before_seeds_are_added_are_recorded(tmp_path):
    plans = [plan_suite(write_suite(tmp_path, "('alexnet_no_dropout',)"), 2, SMALL)]
    plans += [dataclasses.replace(plans[0], seeds=tuple(range(count))) for count in (2, 3, 2, 5)]
    looks = []
    for plan in plans:
        runner.write_record(plan, tmp_path, "")
        looks.append(read_suite_file(tmp_path).looks)
    # A start with fewer of the same seeds looks at no others, and none is forgotten.
    assert looks == [(), (), (2,), (2,), (2, 3)]
    assert read_suite_file(tmp_path).seeds == (0, 1, 2, 3, 4)


def test_rules_stay_those_of_the_first_start(tmp_path, caplog):
    plan = plan_suite(write_suite(tmp_path, "('alexnet_no_dropout',)"), 2, SMALL)
    runner.write_record(plan, tmp_path, "")
    changed = dataclasses.replace(plan, collapsed_margin=0.3, equivalent_within=0.05)
    runner.write_record(changed, tmp_path, "")
    record = read_suite_file(tmp_path)
    assert (record.collapsed_margin, record.equivalent_within) == (0.05, 0.0)
    assert "collapsed_margin, equivalent_within of the suite mine changed since" in caplog.text


@pytest.mark.parametrize(
    "field", ["collapsed_margin='low'", "equivalent_within=1.5", "equivalent_within=-0.1"]
)
def test_rules_are_numbers(tmp_path, field):
    path = write_suite(tmp_path, "('alexnet_no_dropout',)", f", {field}")
    with pytest.raises(UsageError, match="expected a share from 0"):
        plan_suite(path, 2, SMALL)


def test_an_arm_is_compiled_once_for_all_its_seeds_and_unloaded_after_them(finished):
    assert finished.traced == ["train", "evaluate"] * 2
    assert finished.drawn == 1  # the last arm's


def test_a_failed_run_does_not_stop_the_others_and_is_tried_again(own_copy, monkeypatch, capsys):
    plan, workdir = own_copy
    lost, other = (workdir / f"alexnet_default/seed_{seed}" for seed in (0, 1))
    shutil.rmtree(lost)
    shutil.rmtree(other)
    original = runner.train_and_report

    def fails(experiment, *arguments):
        if experiment.config.seed == 0:
            raise MemoryError("no room")
        return original(experiment, *arguments)

    monkeypatch.setattr(runner, "train_and_report", fails)
    assert do_small(plan, workdir) == {lost: "MemoryError: no room"}
    assert "MemoryError: no room" in (lost / "failure.txt").read_text()
    assert (other / "summary.json").exists()
    monkeypatch.setattr(runner, "train_and_report", original)
    assert do_small(plan, workdir) == {}
    assert (lost / "summary.json").exists()
    assert not (lost / "failure.txt").exists()


def test_a_failed_suite_exits_with_1_and_compares_what_is_there(tmp_path, monkeypatch, capsys):
    original = runner.train_and_report

    def fails(experiment, *arguments):
        if experiment.config.seed == 1:
            raise RunFailed("the loss was NaN")
        return original(experiment, *arguments)

    monkeypatch.setattr(runner, "train_and_report", fails)
    path = write_suite(tmp_path, "('alexnet_no_dropout',)")
    with pytest.raises(SystemExit) as stop:
        run_command(main, [f"--config={path}", f"--workdir={tmp_path}/w", "--seeds=2", *SMALL])
    assert stop.value.code == 1
    errors = capsys.readouterr().err
    assert "failed: 2 of 4 runs: alexnet_default, seed 1 (the loss was NaN); alexnet_no" in errors
    assert "One seed only" in (tmp_path / "w/comparison.md").read_text()


def test_runs_of_another_config_are_refused_before_anything_is_trained(own_copy):
    plan, workdir = own_copy
    path = workdir / "alexnet_no_dropout/seed_1/config.json"
    config = json.loads(path.read_text())
    config["optimizer"]["learning_rate"] = 0.5
    path.write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"optimizer.learning_rate: 0.5 there, 0.001 now"):
        list_small(plan, workdir)
    path.write_text("[]")
    with pytest.raises(UsageError, match="cannot be read"):
        list_small(plan, workdir)


def test_fewer_epochs_or_other_data_are_refused_too(own_copy):
    plan, workdir = own_copy
    history = workdir / "alexnet_default/seed_0/history.csv"
    text = history.read_text()
    history.write_text(text + text.splitlines()[-1] + "\n")
    with pytest.raises(UsageError, match=r"train\.epochs: 2 there, 1 now"):
        list_small(plan, workdir)
    history.write_text(text)
    other = dataclasses.replace(small_images(), fingerprint="another")
    with pytest.raises(UsageError, match="Brightness, changed since"):
        list_small(plan, workdir, other)


def test_a_report_shows_differences_from_its_experiment_file(finished):
    page = (finished.workdir / "alexnet_default/seed_0/report.html").read_text()
    assert "No difference" not in page
    assert "train.epochs" in page


def test_the_same_seed_starts_all_arms_alike():
    arms = [
        load_experiment(EXPERIMENTS / f"{name}.py")
        for name in ("alexnet_default", "alexnet_pool", "alexnet_l2", "alexnet_no_batchnorm")
    ]
    small = {
        "model.blocks": (((2, 11),), ((4, 5),), ((4, 3),)),
        "model.head_units": (8, 8),
        "data.train_examples": 48,
        "train.batch_size": 16,
    }
    dataset = small_dataset(48, 30, (28, 28, 1), classes=10)
    states, orders = [], []
    for arm in arms:
        arm.update_from_flattened_dict(small)
        experiment = experiments.assemble(arm, dataset).with_seed(3)
        states.append(dict(jax.tree_util.tree_leaves_with_path(experiment.create_state().params)))
        batches = train_batches(experiment.splits.train, 16, experiment.config.seed, 2)
        orders.append(np.concatenate([batch["label"] for batch in batches]))
    shared = 0
    for other in states[1:]:
        for path in states[0].keys() & other.keys():
            if states[0][path].shape == other[path].shape:
                np.testing.assert_array_equal(states[0][path], other[path])
                shared += 1
    assert shared > 30  # all but the first dense kernel, whose input has another size
    for order in orders[1:]:
        np.testing.assert_array_equal(order, orders[0])


@dataclasses.dataclass
class FakeRun:
    name: str
    work: float
    finished: bool = False

    def __str__(self):
        return self.name


def test_the_remaining_time_is_estimated_by_work(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    output = io.StringIO()
    summary = {"final_val_accuracy": 0.5, "best_val_accuracy": 0.6}
    runs = [FakeRun(f"arm, seed {number}", work) for number, work in enumerate((20.0, 30.0, 50.0))]
    with SuiteProgress(Console(file=output, width=200), "auto", runs) as progress:
        for run, seconds in zip(runs, (60, 90, 150), strict=True):
            progress.run_begins(run)
            now[0] += seconds
            progress.run_ends(run, {**summary, "seconds": seconds})
    lines = output.getvalue().splitlines()
    assert lines[0] == "[1/3] arm, seed 0: validation accuracy 0.5000 (best 0.6000)  1:00  ETA 4:00"
    assert lines[1].endswith("1:30  ETA 2:30")
    assert lines[2].endswith("2:30  ETA 0:00")
