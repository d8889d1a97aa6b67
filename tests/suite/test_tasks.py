"""Tasks and launchers; no task of these tests trains."""

import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from typing import NamedTuple

import pytest

from flaxlab.command_line import CommandParser
from flaxlab.config.fields import replaced
from flaxlab.errors import RunFailed, UsageError
from flaxlab.lock import is_locked, locked
from flaxlab.suite.__main__ import main
from flaxlab.suite.launchers import slurm
from flaxlab.suite.launchers.processes import find_slots, visible_gpus
from flaxlab.suite.launchers.task import Job, Slot, make_tasks
from flaxlab.suite.options import add_options, read_options
from flaxlab.suite.plan import PlannedArm, plan_suite
from tests.helpers.processes import run_code
from tests.helpers.runs import PROCESSES, SMALL_SUITE, SWEEP, write_suite


class PlannedRun(NamedTuple):
    arm: PlannedArm
    seed: int


@pytest.fixture
def plan(tmp_path):
    return plan_suite(write_suite(tmp_path, "('alexnet_no_dropout',)"), 5, SMALL_SUITE)


@pytest.fixture
def tasks(tmp_path, plan):
    runs = [PlannedRun(arm, seed) for arm in plan.arms for seed in plan.seeds]
    return lambda size, left=runs: make_tasks(left, size, tmp_path / "runs")


def test_tasks_have_every_run_once(tasks):
    assert [(task.arm.name, task.seeds) for task in tasks(2)] == [
        (arm, seeds)
        for arm in ("alexnet_default", "alexnet_no_dropout")
        for seeds in ((0, 1), (2, 3), (4,))
    ]
    assert [task.seeds for task in tasks(None)] == [(0, 1, 2, 3, 4)] * 2
    assert tasks(None, []) == []
    assert str(tasks(2)[1]) == "alexnet_default, seeds 2, 3"
    assert str(tasks(2)[2]) == "alexnet_default, seed 4"


def changed(arm):
    """Returns an arm whose file gave another number of epochs when it was planned."""
    return replace(arm, config=replaced(arm.config, train={"epochs": 2}))


def test_a_task_notices_that_its_experiment_has_changed(tasks):
    (task, *_) = tasks(2)
    task = replace(task, arm=changed(task.arm))
    with pytest.raises(UsageError, match="has changed since the suite was started"):
        task.run()
    failed = call(task)
    assert list(failed) == task.folders
    assert "has changed" in failed[task.folders[0]]


def call(task):
    """Calls a task as submitit does, and restores the signal handlers of this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        return task()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


INTERRUPTED = """
import os, signal, sys
from submitit.core import job_environment, utils
from flaxlab.suite.launchers.task import Task

class Waiting(Task):
    def run(self):
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])
        signal.pause()

environment = job_environment.JobEnvironment()
delayed = utils.DelayedSubmission(Waiting(None, (0,), None))
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
    write_tool(tmp_path / "squeue", f"echo 12_2 PENDING; echo 12_3 {state}")
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
    """Slurm's commands, as scripts that answer what a test wants."""

    def __init__(self, folder):
        self.folder = folder
        write_tool(folder / "srun", "exit 1")
        write_tool(folder / "sbatch", f"cp $1 {folder}/submitted.sh; echo Submitted batch job 12")
        self.answer("")

    def answer(self, *states):
        """Makes squeue show these states of jobs 12_0, 12_1, ...; without any, it knows no job."""
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
    return FakeSlurm(folder)


def read(*arguments):
    """Returns the options of a command line, as `flaxlab.suite` reads them."""
    parser = CommandParser()
    add_options(parser)
    return read_options(parser, [*SWEEP, *arguments])


@pytest.fixture
def slurm_launcher(tmp_path, plan):
    return lambda *arguments: slurm.Slurm(
        plan, tmp_path / "runs", read("--launcher=slurm", *arguments)
    )


def test_a_suite_is_one_array_with_the_resources_that_were_given(fake_slurm, slurm_launcher, tasks):
    resources = ["--time=30", "--partition=gpu", "--gpus=2", "--cpus=8", "--memory=16G"]
    others = ["--slurm.account=lab", "--slurm.exclusive"]
    launcher = slurm_launcher("--tasks_at_once=3", *resources, *others)
    submitted = launcher.submit(tasks(1))
    assert [str(job) for job in submitted] == [f"job 12_{index}" for index in range(10)]
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
    assert all(job.submitted.submission().function == job.task for job in submitted)


def test_jobs_of_an_earlier_start_are_found_again(tmp_path, fake_slurm, slurm_launcher, plan):
    runs = [PlannedRun(arm, seed) for arm in plan.arms for seed in plan.seeds]
    assert slurm_launcher().jobs == []
    submitted = slurm_launcher().submit(make_tasks(runs, None, tmp_path / "runs"))
    fake_slurm.answer("COMPLETED", "PENDING")
    (found,) = slurm_launcher().jobs
    assert str(found) == "job 12_1"
    assert found.task == submitted[1].task
    other = replace(plan, arms=tuple(map(changed, plan.arms)))
    with pytest.raises(UsageError, match=r"job 12_1 is running .* with other settings.*scancel 12"):
        slurm.Slurm(other, tmp_path / "runs", read("--launcher=slurm"))
    fake_slurm.answer()
    assert slurm_launcher().jobs == []
    write_tool(fake_slurm.folder / "squeue", "echo no controller >&2; exit 1")
    with pytest.raises(UsageError, match="squeue does not answer"):
        slurm_launcher()


def test_a_killed_job_is_told_from_one_that_failed_or_was_cancelled(
    fake_slurm, slurm_launcher, tasks
):
    launcher = slurm_launcher()
    submitted = launcher.submit(tasks(2))
    folder = submitted[0].task.folders[1]
    fake_slurm.answer("RUNNING", "PENDING", "FAILED", "CANCELLED", "COMPLETING", "OUT_OF_MEMORY")
    assert launcher.ended() == []  # results may still be on their way
    write_result(submitted[0], ("success", {folder: "the loss was NaN"}))
    ended = {str(job): outcome for job, outcome in launcher.ended()}
    assert ended == {
        "job 12_0": {folder: "the loss was NaN"},
        "job 12_2": "Slurm's state: FAILED",
        "job 12_3": dict.fromkeys(submitted[3].task.folders, "Slurm's state: CANCELLED"),
        "job 12_5": dict.fromkeys(submitted[5].task.folders, "Slurm's state: OUT_OF_MEMORY"),
    }
    assert "2 jobs go on: squeue --jobs=12" in launcher.stop()
    write_result(submitted[1], ("error", "Traceback\n  ...\nValueError: a bug\n"))
    assert launcher.ended() == [
        (submitted[1], dict.fromkeys(submitted[1].task.folders, "ValueError: a bug"))
    ]
    assert launcher.jobs == [submitted[4]]
    fake_slurm.answer()  # so long ago that Slurm has forgotten it
    assert launcher.ended() == []
    assert launcher.ended() == [(submitted[4], "Slurm's state: unknown to squeue")]
    assert launcher.jobs == []


def write_result(job: Job, content):
    job.submitted.paths.result_pickle.write_bytes(pickle.dumps(content))


def test_a_refusal_by_slurm_is_one_line(fake_slurm, slurm_launcher, tasks, capsys):
    write_tool(fake_slurm.folder / "sbatch", "echo invalid partition specified >&2; exit 1")
    launcher = slurm_launcher()
    with pytest.raises(UsageError, match="Slurm refuses the jobs: invalid partition"):
        launcher.submit(tasks(None))
    write_tool(fake_slurm.folder / "sbatch", "echo Unable to contact slurm controller >&2; exit 1")
    with pytest.raises(RunFailed, match="Slurm accepts no jobs now: Unable to contact slurm"):
        launcher.submit(tasks(None))
    assert capsys.readouterr() == ("", "")


def test_tasks_share_cores_or_have_a_gpu_each():
    cores = frozenset(range(2, 9))
    shares = [slot.cores for slot in find_slots(3, [], cores)]
    assert sorted(core for share in shares for core in share) == sorted(cores)
    assert {len(share) for share in shares} == {2, 3}
    assert find_slots(None, [], cores) == [Slot(None, cores)]
    assert find_slots(None, ["3", "GPU-1f"], cores) == [Slot("3", cores), Slot("GPU-1f", cores)]
    assert find_slots(1, ["3", "GPU-1f"], cores) == [Slot("3", cores)]
    with pytest.raises(UsageError, match="--tasks_at_once=8 is more than the 7 cores"):
        find_slots(8, [], cores)
    with pytest.raises(UsageError, match="=3 is more than 1 for each of 2 visible GPUs; see --"):
        find_slots(3, ["0", "1"], cores)
    spread = [slot.gpu for slot in find_slots(3, ["0", "1"], cores, tasks_per_gpu=2)]
    assert spread == ["0", "1", "0"]
    with pytest.raises(UsageError, match="--tasks_per_gpu=2, but JAX sees no GPU"):
        find_slots(None, [], cores, tasks_per_gpu=2)


SHARING = """
import os, pathlib
from flaxlab.hardware import available_cores
from flaxlab.suite.launchers.task import Slot, Task
names = ("CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION")
Task.run = lambda self: [os.environ.get(name) for name in names]
for count in (1, 3):
    print(*Task(None, (0,), pathlib.Path(), Slot("2", available_cores(), count))())
"""


@pytest.mark.parametrize(("given", "share"), [(None, "0.300"), ("0.6", "0.200")])
def test_tasks_that_share_a_gpu_share_its_memory(given, share):
    ended = run_code(SHARING, environment={"XLA_PYTHON_CLIENT_MEM_FRACTION": given})
    assert ended.shown.splitlines() == [f"2 {given}", f"2 {share}"], ended.errors


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


def test_a_lock_can_be_inspected(tmp_path):
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
        (["--tasks_at_once=2"], "--tasks_at_once is for tasks; add --launcher=processes"),
        (["--seeds_per_task=2"], "--seeds_per_task is for tasks"),
        ([PROCESSES, "--seeds_per_task=0"], "0 is not a whole number from 1"),
        ([PROCESSES, "--gpus=1"], "--gpus is for --launcher=slurm.*CUDA_VISIBLE_DEVICES"),
        (["--slurm.account=lab"], "--slurm.account=lab is for --launcher=slurm"),
        ([PROCESSES, "--tasks_at_once=100000"], "is more than the"),
        (["--launcher=slurm", "--time=4"], "--time=4 is too short.*at least 5"),
        (["--launcher=slurm", "--slurm.array=0-3"], "--slurm.array cannot be set, since the suite"),
        (["--launcher=slurm", "--slurm.mem=1G"], "--slurm.mem cannot be set.*use .*--memory"),
        (["--launcher=slurm", "--slurm.=1"], "--slurm.=1 is not an option of sbatch"),
        (["--launcher=slurm"], "needs Slurm's sbatch, squeue and srun"),
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
