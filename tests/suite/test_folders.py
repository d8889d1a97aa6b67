"""Runs and suites keep apart: whoever would mix their files is refused before anything is done."""

from pathlib import Path

import pytest

import flaxlab
from flaxlab.errors import UsageError
from flaxlab.main import main
from flaxlab.run.directory import make_run_directory
from flaxlab.suite.__main__ import main as suite
from flaxlab.suite.runs import require_no_other_runs
from tests.helpers.finished_runs import write_arm, write_run, write_suite
from tests.helpers.refusals import refused
from tests.helpers.runs import SMALL_POOL, SWEEP, small_config


def everything_in(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize("inside", ["", "alexnet_pool", "alexnet_pool/first", "seed_0", "a/b/c"])
def test_no_run_goes_into_the_folder_of_a_suite(inside, tmp_path, capsys):
    write_suite(tmp_path)
    before = everything_in(tmp_path)
    command = refused(main, [*SMALL_POOL, f"--workdir={tmp_path / inside}"], capsys)
    with pytest.raises(UsageError) as python:
        flaxlab.fit(small_config(), tmp_path / inside)
    for said in (command, str(python.value)):
        assert f"({tmp_path / 'suite.json'} is there), whose runs are in ARM/seed_N" in said
    assert everything_in(tmp_path) == before


def test_a_planned_run_of_a_suite_may_be_made_alone(tmp_path, monkeypatch):
    write_suite(tmp_path)
    monkeypatch.chdir(tmp_path)
    for run in (tmp_path / "alexnet_pool/seed_0", Path("pools=1/seed_12")):
        make_run_directory(run, "--workdir")
        assert run.is_dir()


@pytest.mark.parametrize("at", ["", "first"])
def test_no_suite_goes_over_runs(at, tmp_path, capsys):
    run = write_run(tmp_path / "runs" / at, "alexnet_pool", 0, [0.5])
    before = everything_in(tmp_path)
    said = refused(suite, [*SWEEP, f"--workdir={tmp_path / 'runs'}"], capsys)
    assert f"{run} is a run already (config.json is there); use another --workdir" in said
    assert everything_in(tmp_path) == before


def test_no_suite_goes_into_another(tmp_path, capsys):
    write_suite(tmp_path)
    said = refused(suite, [*SWEEP, f"--workdir={tmp_path / 'alexnet_pool'}"], capsys)
    assert f"inside the folder of another suite ({tmp_path / 'suite.json'} is there)" in said


def test_a_suite_goes_on_among_its_own_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_arm(tmp_path, "alexnet_pool", [0.5])
    require_no_other_runs(tmp_path)  # suite.json may be removed, to write it anew
    write_suite(tmp_path)
    require_no_other_runs(tmp_path)
    require_no_other_runs(tmp_path.relative_to(tmp_path))
