"""What a kernel meets and a command does not: several runs, changed files, threads."""

import importlib
import threading

import pytest

import flaxlab
from flaxlab.errors import Interrupted, UsageError
from flaxlab.run.directory import require_unchanged_imports
from flaxlab.run.record import experiment_revision, remember_revisions, versions
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble
from flaxlab.user_code import run_file
from tests.helpers.runs import POOL_FILE, run_small, small_config, small_dataset, stop_at


def test_each_run_has_the_revision_of_its_own_time(tmp_path, monkeypatch):
    revisions = iter(["one", "two"])
    versions()
    monkeypatch.setattr("flaxlab.run.record.git_revision", lambda path: next(revisions))
    for expected in ("one", "two"):
        remember_revisions([POOL_FILE])
        assert experiment_revision(POOL_FILE) == expected
        assert experiment_revision(POOL_FILE) == expected  # a commit during the run
    experiment_revision.cache_clear()


def test_an_imported_module_that_has_changed_is_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    helper = tmp_path / "units_of_mine.py"
    helper.write_text("UNITS = 8\n")
    experiment = tmp_path / "mine.py"
    experiment.write_text("from units_of_mine import UNITS\n")
    importlib.invalidate_caches()
    run_file(experiment)
    require_unchanged_imports(experiment)
    require_unchanged_imports(experiment)
    helper.write_text("UNITS = 32\n")
    with pytest.raises(UsageError, match=r"units_of_mine\.py has changed since .*restart"):
        require_unchanged_imports(experiment)
    helper.write_text("UNITS = 8\n")
    experiment.write_text("from units_of_mine import UNITS\nA = 1\n")  # this one is run again
    run_file(experiment)
    require_unchanged_imports(experiment)


def test_a_run_in_another_thread_is_a_run(tmp_path):
    done = []
    work = threading.Thread(target=lambda: done.append(flaxlab.fit(small(), tmp_path / "run")))
    work.start()
    work.join()
    assert done[0].summary["epochs"] == 1


def small():
    return flaxlab.configure(small_config(**{"train.epochs": 1, "log.progress": "none"}))


def test_a_run_that_is_not_finished_shows_what_is_there(tmp_path):
    experiment = assemble(small_config(), small_dataset())
    with pytest.raises(Interrupted):
        train(experiment, tmp_path, stop=stop_at(2))  # within the first epoch
    run = flaxlab.open_run(tmp_path)
    assert "0 of 3, not finished" in run._repr_html_()
    with pytest.raises(UsageError, match="no epoch of the run"):
        run.plot()
    run_small(tmp_path)  # without a report, like a run of a ledger
    shown = flaxlab.open_run(tmp_path)._repr_html_()
    assert "3 of 3, not finished" in shown
    assert "<img " in shown
    assert "report.html" not in shown
