"""A run keeps the files that made its config."""

import shutil
import sys

import pytest

from flaxlab.config.read import load_experiment
from flaxlab.errors import Diverged
from flaxlab.main import main
from flaxlab.run import run
from flaxlab.run.directory import FAILURE_FILE, sources, write_sources
from tests.helpers.runs import EXPERIMENTS, POOL_FILE, SMALL_RUN

MINE = """
from experiments import alexnet_pool
import beside
import numpy


def get_config():
    config = alexnet_pool.get_config()
    config.name = "mine"
    config.baseline = "alexnet_pool"
    config.seed = beside.SEED
    return config
"""


def test_a_run_keeps_its_experiment_file_its_imports_and_its_baseline(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "beside.py").write_text("SEED = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    main([f"--config={tmp_path / 'mine.py'}", f"--workdir={tmp_path / 'run'}", *SMALL_RUN])
    kept = tmp_path / "run/source"
    assert {path.name for path in kept.iterdir()} == {
        "mine.py",
        "beside.py",
        "alexnet_pool.py",
        "alexnet_default.py",
    }
    assert (kept / "mine.py").read_text() == MINE
    expected = (EXPERIMENTS / "alexnet_pool.py").read_text()
    assert (kept / "alexnet_pool.py").read_text() == expected
    sys.modules.pop("beside")


def test_two_files_with_the_same_name_are_both_kept(tmp_path):
    other = tmp_path / "alexnet_pool.py"
    shutil.copy(EXPERIMENTS / "alexnet_pool.py", other)
    load_experiment(other)
    found = sources([other, EXPERIMENTS / "alexnet_pool.py"])
    assert [path.name for path in found].count("alexnet_pool.py") == 2
    write_sources(tmp_path / "run", found)
    kept = {path.name for path in (tmp_path / "run/source").iterdir()}
    assert kept == {"alexnet_pool.py", "alexnet_pool_1.py", "alexnet_default.py"}


def test_a_run_that_diverged_says_so_until_it_goes_on(tmp_path, monkeypatch):
    arguments = [f"--config={POOL_FILE}", f"--workdir={tmp_path}", *SMALL_RUN]

    def diverges(*arguments):
        raise Diverged("the loss was NaN")

    with monkeypatch.context() as patched:
        patched.setattr(run, "train", diverges)
        with pytest.raises(Diverged):
            main(arguments)
    assert "flaxlab.errors.Diverged: the loss was NaN" in (tmp_path / FAILURE_FILE).read_text()
    main(arguments)
    assert (tmp_path / "summary.json").exists()
    assert not (tmp_path / FAILURE_FILE).exists()
