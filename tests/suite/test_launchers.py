"""Suites in tasks: the same runs as in one process, whatever happens to a task."""

import csv
import os
import signal
import subprocess
from pathlib import Path

import pytest

from flaxlab.errors import RunFailed
from flaxlab.suite.__main__ import main
from tests.helpers.processes import start
from tests.helpers.run_directories import assert_same_outcome, outcome, require_clean
from tests.helpers.runs import PROCESSES, SMALL_POOL, SWEEP

# Columns of a comparison that depend on the clock.
TIMED = {"seconds", "seconds_low", "seconds_high"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of `SWEEP`, run in the process of the tests."""
    folder = tmp_path_factory.mktemp("one_process")
    main([*SWEEP, f"--workdir={folder}"])
    return folder


def compared(folder):
    """Returns the comparison of a suite, without times."""
    with (folder / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key not in TIMED} for row in rows]


def start_suite(*arguments):
    """Starts the command, with its warnings among its output."""
    return start("suite", *arguments, stderr=subprocess.STDOUT)


def run_folders(folder):
    return sorted(path.relative_to(folder) for path in folder.glob("*/seed_*"))


def require_same_suite(folder, expected):
    assert run_folders(folder) == run_folders(expected)
    assert len(run_folders(folder)) == 4
    for run in run_folders(folder):
        require_clean(folder / run)
        assert_same_outcome(outcome(folder / run), outcome(expected / run))
    assert compared(folder) == compared(expected)
    named = {path.name for path in folder.iterdir()} - {"tasks"}
    assert named == {path.name for path in expected.iterdir()}


def task_processes(folder):
    """Returns the processes of a suite's tasks, without submitit's own in between."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        if "submitit.core._submit" in command and str(folder / "tasks") in command:
            found.append(int(path.parent.name))
    return found


def saved_epochs(folder):
    return len(list(folder.glob("*/seed_*/checkpoints/latest/*[0-9]")))


def test_a_killed_task_is_started_again_with_the_same_results(tmp_path, undisturbed):
    process = start_suite(*SWEEP, f"--workdir={tmp_path}", PROCESSES)
    process.wait_for(lambda: saved_epochs(tmp_path) > 0)
    (task,) = task_processes(tmp_path)
    os.kill(task, signal.SIGKILL)
    code, output, _ = process.end()
    assert code == 0, output
    assert (
        "learning_rate=0.001, seeds 0, 1: the task ended without a result (its process was killed"
        in output
    )
    assert "starting it again" in output
    assert output.count("best ") == 4  # one line a run
    assert "[4/4] learning_rate=0.01, seed 1: validation accuracy" in output
    assert "resuming after" in "".join(
        log.read_text() for log in (tmp_path / "tasks").glob("*.out")
    )
    require_same_suite(tmp_path, undisturbed)


def test_a_signal_stops_the_tasks_and_a_second_start_continues_them(tmp_path, undisturbed):
    arguments = [*SWEEP, f"--workdir={tmp_path}", PROCESSES, "--seeds_per_task=1"]
    process = start_suite(*arguments)
    process.wait_for(lambda: saved_epochs(tmp_path) > 0)
    tasks = task_processes(tmp_path)
    process.send(signal.SIGTERM)
    code, output, _ = process.end()
    assert code == 128 + signal.SIGTERM, output
    assert "SIGTERM: the tasks save after their steps" in output
    assert "start the same command again to resume" in output
    assert tasks
    assert task_processes(tmp_path) == []
    errors = "".join(log.read_text() for log in (tmp_path / "tasks").glob("*.err"))
    assert "everything is saved" in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob("summary.json"))

    main(arguments)
    require_same_suite(tmp_path, undisturbed)

    started = sorted((tmp_path / "tasks").iterdir())
    main(arguments)
    assert sorted((tmp_path / "tasks").iterdir()) == started


def test_tasks_that_outlive_their_command_are_waited_for(tmp_path):
    arguments = [*SWEEP, f"--workdir={tmp_path}", PROCESSES]
    process = start_suite(*arguments)
    process.wait_for(lambda: saved_epochs(tmp_path) > 0)
    process.abandon()
    (task,) = task_processes(tmp_path)
    os.kill(task, signal.SIGSTOP)
    again = start_suite(*arguments)
    line = again.wait_for_line("seeds 0, 1")
    arm = "learning_rate=0.001, seeds 0, 1"
    assert line.strip() == f"{arm}: waiting for another process that is running it"
    os.kill(task, signal.SIGCONT)
    code, output, _ = again.end()
    assert code == 0, output
    process.end()
    assert run_folders(tmp_path)
    assert not list(tmp_path.rglob("failure.txt"))


def test_failures_are_collected_and_the_other_runs_complete(tmp_path):
    folder = tmp_path / "runs"
    arguments = [*SMALL_POOL, "--seeds=1", f"--workdir={folder}", PROCESSES]
    # The second arm's loss is not finite from its first steps on.
    arguments += ["--sweep.optimizer.learning_rate=1e-3,1e30", "--tasks_at_once=2"]
    with pytest.raises(RunFailed, match=r"1 of 2 runs: learning_rate=1e\+30, seed 0 \(") as failed:
        main(arguments)
    assert "NaN or infinite" in str(failed.value)
    log = str(failed.value).split("; log ")[-1].split(")")[0]
    assert "NaN or infinite" in Path(log).with_suffix(".err").read_text()
    assert [path.parent.parent.name for path in folder.rglob("summary.json")] == [
        "learning_rate=0.001"
    ]
    assert (folder / "learning_rate=1e+30/seed_0/failure.txt").exists()
    assert (folder / "comparison.html").exists()
