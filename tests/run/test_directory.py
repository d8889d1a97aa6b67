"""A run keeps the files that made its config."""

import shutil
import sys

from flaxlab.config.read import load_experiment
from flaxlab.main import main
from flaxlab.run.directory import sources, write_sources
from tests.helpers.runs import EXPERIMENTS, SMALL_RUN

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
