"""One run in several real processes: it has the numbers of one process, and all end together."""

import json
import shutil
import signal
import socket
import subprocess

import jax
import numpy as np
import pytest

import flaxlab
from flaxlab.command_line import CommandParser
from flaxlab.errors import RunFailed, UsageError
from flaxlab.main import main
from flaxlab.processes import Agreement, explain_lost_process, from_main
from flaxlab.run.group import add_options, find_group
from tests.helpers.damage import flip_a_bit
from tests.helpers.processes import start
from tests.helpers.runs import SMALL_POOL

# As in tests/batches/test_devices.py: small steps of plain SGD. 331 examples in batches of 32: the
# last has 11. Pools by averages: which of two values is the larger may be a matter of rounding.
RUN = [
    *(option for option in SMALL_POOL if "train.devices" not in option),
    "--config.data.train_examples=331",
    "--config.model.head_dropout=(0.3, 0.3)",
    "--config.model.block_dropout=(0.1,)",
    "--config.optimizer.name=sgd",
    "--config.optimizer.momentum=0.0",
    "--config.optimizer.learning_rate=0.001",
    "--config.model.padding=SAME",
    "--config.model.pool_kind=avg",
    "--config.log.progress=lines",
]


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


class Processes:
    """A run in two processes of one device each; all are killed if the test fails.

    `each` maps the number of a process to options of its own.
    """

    def __init__(self, workdir, *overrides, each=lambda number: []):
        command = [*RUN, f"--workdir={workdir}", *overrides]
        command += [f"--coordinator=localhost:{free_port()}", "--num_processes=2"]
        self.workdir = workdir
        self.all = []
        for number in range(2):
            own = [*each(number), f"--process_id={number}"]
            self.all.append(start("main", *command, *own, stdout=subprocess.DEVNULL))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.all:
            process.__exit__()

    def wait_for_epochs(self, count):
        self.all[0].wait_for(lambda: self.epochs() >= count)

    def epochs(self):
        file = self.workdir / "history.csv"
        return len(file.read_text().splitlines()) - 1 if file.is_file() else 0

    def end(self):
        """Waits for all; returns the exit code and stderr of each."""
        ends = [process.end() for process in self.all]
        return [(ended.code, ended.errors) for ended in ends]


def finish(workdir, *overrides):
    with Processes(workdir, *overrides) as processes:
        assert [code for code, _ in processes.end()] == [0, 0]
    return workdir


def finish_alone(workdir, *overrides):
    """Does the same in this process, on one of its devices."""
    main([*RUN, "--config.train.devices=1", f"--workdir={workdir}", *overrides])
    return workdir


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return finish_alone(tmp_path_factory.mktemp("alone"))


# Each process reads its own columns of a batch; alone, the examples are resident.
GRAIN = "--config.data.placement=grain"


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("together"), GRAIN)


def assert_same_numbers(ours, expected):
    found, wanted = (np.genfromtxt(run / "history.csv", delimiter=",") for run in (ours, expected))
    timed = (6, 8)
    np.testing.assert_allclose(
        np.delete(found, timed, 1), np.delete(wanted, timed, 1), rtol=1e-6, equal_nan=True
    )
    pairs = zip(*(jax.tree.leaves(flaxlab.load(run)[1]) for run in (ours, expected)), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5)


def test_two_processes_give_the_numbers_of_one(alone, together):
    assert_same_numbers(together, alone)
    assert json.loads((together / "summary.json").read_text())["device"].startswith("2 x cpu")
    # Each process has saved its part.
    parts = (together / "checkpoints/latest/33/state").glob("ocdbt.process_*")
    assert {path.name for path in parts} == {"ocdbt.process_0", "ocdbt.process_1"}


def test_a_run_ends_when_a_process_is_killed_and_goes_on_with_another_number(tmp_path):
    with Processes(tmp_path, "--config.train.epochs=3000") as processes:
        processes.wait_for_epochs(1)
        processes.all[1].send(signal.SIGKILL)
        (code, errors), _ = processes.end()
    assert code == 1
    assert errors.startswith("failed: another process of this run was lost")
    assert len(errors.splitlines()) == 1
    reached = processes.epochs()
    finish_alone(tmp_path, f"--config.train.epochs={reached + 1}")
    finish(tmp_path, f"--config.train.epochs={reached + 2}")
    expected = finish_alone(tmp_path / "undisturbed", f"--config.train.epochs={reached + 2}")
    assert_same_numbers(tmp_path, expected)


def test_several_processes_go_on_from_before_a_damaged_checkpoint(tmp_path, alone, together):
    copy = shutil.copytree(together, tmp_path / "copy")
    flip_a_bit(copy / "checkpoints/latest/33")
    assert_same_numbers(finish(copy, GRAIN), alone)
    assert (copy / "checkpoints/damaged/latest-33").is_dir()


@pytest.mark.parametrize(("number", "heard_by"), [(signal.SIGTERM, 1), (signal.SIGUSR2, 0)])
def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path, number, heard_by):
    with Processes(tmp_path, "--config.train.epochs=3000") as processes:
        processes.wait_for_epochs(1)
        processes.all[heard_by].send(number)
        ends = processes.end()
    assert [code for code, _ in ends] == [128 + number] * 2
    lines = [errors.splitlines()[-1] for _, errors in ends]
    assert lines[0] == lines[1]
    assert lines[0].startswith("interrupted: after ")
    assert "everything is saved" in lines[0]


def test_processes_that_do_not_come_together_say_so(tmp_path):
    command = [*RUN, f"--workdir={tmp_path}", f"--coordinator=localhost:{free_port()}"]
    command += ["--num_processes=2", "--process_id=1", "--join_seconds=2"]
    code, _, errors = start("main", *command).end()
    assert code == 2
    (line,) = errors.splitlines()
    assert "did not come together within 2 seconds" in line
    assert "check --coordinator" in line


def test_each_process_reports_what_a_run_cannot_do(tmp_path):
    with Processes(tmp_path, "--config.train.batch_size=31") as processes:
        for code, errors in processes.end():
            assert code == 2
            assert "2 devices cannot share evenly; use 30 or 32" in errors
            assert len(errors.splitlines()) == 1


def test_processes_with_different_configs_are_refused(tmp_path):
    with Processes(tmp_path, each=lambda number: [f"--config.seed={number}"]) as processes:
        for code, errors in processes.end():
            assert code == 2, errors
            assert "do not have the same config and data" in errors


def group(arguments, environment=None):
    parser = CommandParser()
    add_options(parser)
    return find_group(parser.parse_args(arguments), environment or {})


SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "2",
}
MPI = {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1", "OMPI_COMM_WORLD_SIZE": "2"}


def test_a_group_is_found_from_its_launcher_or_from_options():
    assert group([]) is None
    assert group([], SLURM).launcher == "Slurm"
    assert group([], {**SLURM, "SLURM_NTASKS": "1"}) is None
    batch_script = {key: value for key, value in SLURM.items() if "STEP" not in key}
    assert group([], batch_script) is None
    assert group([], MPI).launcher == "Open MPI"
    newer = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2"}
    with pytest.raises(UsageError, match=r"Open MPI started 4.* --coordinator=HOST:PORT"):
        group([], newer)
    found = group(["--coordinator=a:1"], newer)
    assert (found.coordinator, found.processes, found.process) == ("a:1", 4, 2)
    assert group([], {**newer, "OMPI_COMM_WORLD_SIZE": "1"}) is None
    assert group(["--num_processes=1"], SLURM) is None
    assert group(["--coordinator=a:1"], SLURM).coordinator == "a:1"
    given = group(["--coordinator=a:1", "--num_processes=4", "--process_id=3"])
    assert (given.coordinator, given.processes, given.process) == ("a:1", 4, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_processes=2"], "need all of --coordinator"),
        (["--coordinator=a", "--num_processes=2", "--process_id=0"], "expected HOST:PORT"),
        (["--coordinator=a:99999", "--num_processes=2", "--process_id=0"], "expected HOST:PORT"),
        (
            ["--coordinator=a:1", "--num_processes=0", "--process_id=0"],
            "not a whole number from 1",
        ),
        (["--coordinator=a:1", "--num_processes=2", "--process_id=2"], "expected 0 to 1"),
        (["--coordinator=a:1", "--num_processes=2", "--process_id=-1"], "expected 0 to 1"),
        (["--join_seconds=0"], "not a whole number from 1"),
    ],
)
def test_options_that_describe_no_group_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        group(arguments)


def test_alone_a_process_agrees_with_itself_at_once():
    agreement = Agreement()
    assert [agreement.when_due(15, 0, 1) for _ in range(3)] == [(15, 0, 1)] * 3
    assert from_main(3, 4) == (3, 4)


def gathered_from(monkeypatch, *others):
    """Pretends that there are other processes, with these requests and seconds."""
    monkeypatch.setattr(jax, "process_count", lambda: 1 + len(others))
    monkeypatch.setattr(
        "jax.experimental.multihost_utils.process_allgather",
        lambda mine: np.stack([mine, *np.array(others, np.float32)]),
    )


def test_any_process_decides_for_all(monkeypatch):
    gathered_from(monkeypatch, (15, 0, 1.0), (0, 1, 1.0))
    assert Agreement().now(0, 0) == (15, 1)


def test_the_slowest_process_decides_when_they_agree_again(monkeypatch):
    gathered_from(monkeypatch, (15, 0.01))  # every call is quick: exchanges become rare
    agreement = Agreement()
    agreed = [bool(agreement.when_due(0)[0]) for _ in range(15)]
    assert [call for call, reached in enumerate(agreed, start=1) if reached] == [1, 3, 7, 15]
    gathered_from(monkeypatch, (15, 100.0))  # one process is slow: exchange at each call
    while not agreement.when_due(0)[0]:
        pass
    assert agreement.when_due(0) == (15,)


def test_only_lost_connections_of_several_processes_are_called_a_lost_process(monkeypatch):
    broken = ValueError("Gloo all-reduce failed: Connection closed by peer")
    with pytest.raises(ValueError, match="Gloo"), explain_lost_process():
        raise broken
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    lost = pytest.raises(RunFailed, match="another process of this run was lost")
    with lost, explain_lost_process():
        raise broken
    with pytest.raises(ZeroDivisionError), explain_lost_process():
        1 / 0  # noqa: B018
    with pytest.raises(UsageError, match="connection"), explain_lost_process():
        raise UsageError("no connection")
