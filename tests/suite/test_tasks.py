"""How a suite becomes tasks, and what launchers do with them: no task of these tests trains."""

import json
import os
import signal
import subprocess
import sys

import pytest

from flaxlab.errors import RunFailed, UsageError
from flaxlab.lock import is_locked, locked
from flaxlab.suite.__main__ import main
from flaxlab.suite.launchers import slurm
from flaxlab.suite.launchers.jobs import Job, Submission
from flaxlab.suite.launchers.processes import find_slots, visible_gpus
from flaxlab.suite.options import Resources
from flaxlab.suite.plan import plan_suite
from flaxlab.suite.task import Task, make_tasks
from tests.helpers.processes import run_code
from tests.helpers.runs import PROCESSES, SMALL_SUITE, SWEEP, write_suite


@pytest.fixture
def tasks(tmp_path):
    plan = plan_suite(write_suite(tmp_path, "('alexnet_no_dropout',)"), 5, SMALL_SUITE)
    runs = [type("Run", (), {"arm": arm, "seed": seed}) for arm in plan.arms for seed in plan.seeds]
    return lambda size, left=runs: make_tasks(plan, left, size, tmp_path / "runs")


def test_tasks_have_every_run_once(tasks):
    assert [(task.arm, task.seeds) for task in tasks(2)] == [
        (arm, seeds)
        for arm in ("alexnet_default", "alexnet_no_dropout")
        for seeds in ((0, 1), (2, 3), (4,))
    ]
    assert [task.seeds for task in tasks(None)] == [(0, 1, 2, 3, 4)] * 2
    assert tasks(None, []) == []
    assert str(tasks(2)[2]) == "alexnet_default, seed 4"


def test_a_task_says_that_its_experiment_has_changed(tasks):
    (task, *_) = tasks(2)
    changed = Task(**{**vars(task), "config": task.config.replace('"epochs": 3', '"epochs": 2')})
    assert changed != task
    with pytest.raises(UsageError, match="has changed since the suite was started"):
        changed.run()
    failed = run_submission(changed)
    assert set(failed) == {0, 1}
    assert "has changed" in failed[0]


def run_submission(task):
    """Calls what submitit calls, and puts this process's handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        return Submission(task)()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


INTERRUPTED = """
import os, signal, sys
from submitit.core import job_environment, utils
from flaxlab.suite.launchers.jobs import Submission

class Waiting:
    seeds = (0,)
    def run(self):
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])
        signal.pause()

environment = job_environment.JobEnvironment()
delayed = utils.DelayedSubmission(Submission(Waiting()))
delayed.set_timeout(60, 3)
environment._handle_signals(utils.JobPaths(sys.argv[2], environment.job_id), delayed)
delayed.result()
"""


@pytest.mark.parametrize(
    ("number", "state", "code", "requeued"),
    [
        ("SIGUSR2", "RUNNING", 255, True),
        ("SIGTERM", "RUNNING", 255, True),  # the grace before a preemption
        ("SIGTERM", "COMPLETING", 143, False),  # scancel, or Slurm puts it back itself
        ("SIGTERM", "", 143, False),
    ],
)
def test_a_job_goes_back_into_the_queue_unless_it_was_cancelled(
    tmp_path, number, state, code, requeued
):
    write_tool(tmp_path / "squeue", f'[ "$2" = --jobs=12_3 ] && echo {state}')
    write_tool(tmp_path / "scontrol", f'echo "$@" > {tmp_path}/asked')
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SUBMITIT_EXECUTOR": "slurm",
        "SLURM_JOB_ID": "12",
        "SLURM_ARRAY_JOB_ID": "12",
        "SLURM_ARRAY_TASK_ID": "3",
    }
    ended = run_code(INTERRUPTED, number, tmp_path, environment=environment)
    assert ended.code == code, ended.errors
    assert "Traceback" not in ended.errors
    assert (tmp_path / "asked").exists() == requeued
    if requeued:
        assert (tmp_path / "asked").read_text() == "requeue 12_3\n"
        assert (tmp_path / "12_3_submitted.pkl").exists()


def write_tool(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


class FakeSlurm:
    """Slurm's commands as scripts that answer what a test has them answer."""

    def __init__(self, folder):
        self.folder = folder
        write_tool(folder / "srun", "exit 1")
        write_tool(folder / "sbatch", f"cp $1 {folder}/submitted.sh; echo Submitted batch job 12")
        self.answer("")

    def answer(self, *states):
        """Has squeue show states of the jobs 12_0, 12_1, ...; none: it knows no such job."""
        lines = "".join(f"12_{index} {state}\n" for index, state in enumerate(states))
        (self.folder / "states").write_text(lines)
        unknown = "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1"
        write_tool(self.folder / "squeue", f"cat {self.folder}/states" if states else unknown)

    def batch_file(self):
        return (self.folder / "submitted.sh").read_text().splitlines()


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "_SECONDS_BETWEEN_LOOKS", 0)
    monkeypatch.setattr(slurm, "_SECONDS_UNTIL_SEEN", 0)
    return FakeSlurm(folder)


def test_a_suite_is_one_array_with_the_resources_that_were_given(tmp_path, fake_slurm, tasks):
    resources = Resources(30, "gpu", 2, 8, "16G", {"account": "lab", "exclusive": True})
    launcher = slurm.Slurm("mine", tmp_path / "runs", resources, 3)
    submitted = launcher.submit(tasks(1))
    assert [job.number for job in submitted] == [f"12_{index}" for index in range(10)]
    lines = fake_slurm.batch_file()
    for expected in (
        "--array=0-9%3",
        "--partition=gpu",
        "--time=30",
        "--gpus-per-node=2",
        "--cpus-per-task=8",
        "--mem=16G",
        "--account=lab",
        "--exclusive",
        "--requeue",
        "--signal=USR2@120",
        "--job-name=flaxlab-mine",
    ):
        assert f"#SBATCH {expected}" in lines
    assert "--cpus-per-task=8 " in lines[-1]
    assert all(job.submitted.submission().function == Submission(job.task) for job in submitted)


def test_jobs_of_an_earlier_start_are_found_again(tmp_path, fake_slurm, tasks):
    def launcher():
        return slurm.Slurm("mine", tmp_path / "runs", Resources(), None)

    assert launcher().find(tasks(None)) == []
    submitted = launcher().submit(tasks(None))
    fake_slurm.answer("COMPLETED", "PENDING")
    (found,) = launcher().find(tasks(None))
    assert (found.number, found.task) == ("12_1", submitted[1].task)
    changed = [Task(**{**vars(task), "config": "{}"}) for task in tasks(None)]
    with pytest.raises(UsageError, match=r"job 12_1 is at .* with other settings .*scancel 12_1"):
        launcher().find(changed)
    fake_slurm.answer()
    assert launcher().find(tasks(None)) == []
    write_tool(fake_slurm.folder / "squeue", "echo no controller >&2; exit 1")
    with pytest.raises(UsageError, match="squeue does not answer"):
        launcher().find(tasks(None))


def test_ends_of_jobs_are_told_apart(tmp_path, fake_slurm, tasks):
    launcher = slurm.Slurm("mine", tmp_path / "runs", Resources(), None)
    submitted = launcher.submit(tasks(2))
    fake_slurm.answer("RUNNING", "PENDING", "FAILED", "CANCELLED", "COMPLETING", "OUT_OF_MEMORY")
    write_result(submitted[0], ("success", {1: "the loss was NaN"}))
    ended = {each.job.number: each for each in launcher.ended()}
    assert ended["12_0"].failures == {1: "the loss was NaN"}
    assert {number: each.again for number, each in ended.items() if number != "12_0"} == {
        "12_2": True,
        "12_3": False,
        "12_5": False,
    }
    assert ended["12_2"].how == "Slurm's state: FAILED"
    assert "2 jobs go on: squeue --jobs=12" in launcher.stop()
    write_result(submitted[1], ("error", "Traceback\n  ...\nValueError: a bug\n"))
    assert [each.failures for each in launcher.ended()] == [
        {2: "ValueError: a bug", 3: "ValueError: a bug"}
    ]
    assert set(json.loads((tmp_path / "runs/tasks/jobs.json").read_text())) == {"12_4"}
    fake_slurm.answer()  # so long ago that Slurm has forgotten it
    assert [each.job.number for each in launcher.ended()] == ["12_4"]


def write_result(job: Job, content):
    import pickle

    job.submitted.paths.result_pickle.write_bytes(pickle.dumps(content))


def test_slurm_that_refuses_is_one_line(tmp_path, fake_slurm, tasks, capsys):
    write_tool(fake_slurm.folder / "sbatch", "echo invalid partition specified >&2; exit 1")
    launcher = slurm.Slurm("mine", tmp_path / "runs", Resources(), None)
    with pytest.raises(UsageError, match="Slurm refuses the jobs: invalid partition"):
        launcher.submit(tasks(None))
    write_tool(fake_slurm.folder / "sbatch", "echo Unable to contact slurm controller >&2; exit 1")
    with pytest.raises(RunFailed, match="Slurm takes no jobs now: Unable to contact slurm"):
        launcher.submit(tasks(None))
    assert capsys.readouterr() == ("", "")


def test_tasks_share_cores_or_have_a_gpu_each():
    cores = frozenset(range(2, 9))
    shares = [slot.cores for slot in find_slots(3, [], cores)]
    assert sorted(core for share in shares for core in share) == sorted(cores)
    assert {len(share) for share in shares} == {2, 3}
    assert find_slots(None, [], cores) == [(None, cores)]
    assert find_slots(None, ["3", "GPU-1f"], cores) == [("3", cores), ("GPU-1f", cores)]
    assert find_slots(1, ["3", "GPU-1f"], cores) == [("3", cores)]
    with pytest.raises(UsageError, match="--tasks_at_once=8 is more than the 7 cores"):
        find_slots(8, [], cores)
    with pytest.raises(UsageError, match="--tasks_at_once=3 is more than the 2 visible GPUs"):
        find_slots(3, ["0", "1"], cores)


def test_gpus_are_named_as_the_environment_has_them(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert visible_gpus() == []
    monkeypatch.delenv("JAX_PLATFORMS")

    def answers(text):
        result = subprocess.CompletedProcess([], 0, stdout=text, stderr="")
        monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: result)

    answers("cpu 2\n")
    assert visible_gpus() == []
    answers("gpu 3\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-1f,7")
    assert visible_gpus() == ["4", "GPU-1f", "7"]


def test_a_lock_can_be_looked_at(tmp_path):
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked(tmp_path)
    (tmp_path / ".lock").write_text("of a dead process")
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "missing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--launcher=kubernetes"], "invalid choice: 'kubernetes'.*none.*processes.*slurm"),
        (["--tasks_at_once=2"], "--tasks_at_once is for tasks; give --launcher=processes"),
        (["--seeds_per_task=2"], "--seeds_per_task is for tasks"),
        ([PROCESSES, "--seeds_per_task=0"], "0 is not a whole number from 1"),
        ([PROCESSES, "--gpus=1"], "--gpus is for --launcher=slurm.*CUDA_VISIBLE_DEVICES"),
        (["--slurm.account=lab"], "--slurm.account is for --launcher=slurm"),
        ([PROCESSES, "--tasks_at_once=100000"], "is more than the"),
        (["--launcher=slurm", "--time=4"], "--time=4 is too short.*at least 5"),
        (["--launcher=slurm", "--memory=lots"], "--memory=lots is no size.*16G"),
        (["--launcher=slurm", "--slurm.array=0-3"], "--slurm.array cannot be set: the suite makes"),
        (["--launcher=slurm", "--slurm.mem=1G"], "--slurm.mem has an option.*give --memory=VALUE"),
        (["--launcher=slurm", "--slurm.=1"], "--slurm.=1 is no option of sbatch"),
        (["--launcher=slurm"], "needs Slurm's sbatch, which is not on this machine"),
    ],
)
def test_wrong_options_are_refused_in_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=message):
        main([*SWEEP, f"--workdir={tmp_path / 'runs'}", *arguments])
    assert not (tmp_path / "runs").exists()


def test_without_submitit_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    for name in [name for name in sys.modules if name.startswith("flaxlab.suite.launchers")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UsageError, match=r"needs submitit.*pip install 'flaxlab\[slurm\]'"):
        main([*SWEEP, f"--workdir={tmp_path / 'runs'}", PROCESSES])


def test_show_counts_the_tasks_and_starts_none(tmp_path, capsys):
    main([*SWEEP, f"--workdir={tmp_path / 'runs'}", "--launcher=slurm", "--show"])
    assert "2 tasks" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
