"""Two processes in one run directory: the second is refused, a dead one holds nothing."""

import os
import socket

import pytest

from flaxlab.errors import UsageError
from flaxlab.lock import locked
from flaxlab.main import main
from tests.helpers.processes import TRAINING, Training
from tests.helpers.refusals import refused


def test_a_second_process_is_refused_and_a_killed_one_is_not_waited_for(tmp_path, capsys):
    first = Training(tmp_path, "--config.train.epochs=2000")
    first.wait_for_line("epoch    1/2000")
    error = refused(main, [*TRAINING, f"--workdir={tmp_path}"], capsys)
    assert f"{tmp_path} is in use by process {first.pid} on {socket.gethostname()}" in error
    assert first.kill()[0]
    again = Training(tmp_path, "--config.train.epochs=2000")
    assert again.wait_for_line("resuming after")
    again.kill()


def test_the_lock_is_gone_after_its_block_and_other_folders_are_free(tmp_path):
    (tmp_path / "other").mkdir()
    with locked(tmp_path):
        with pytest.raises(UsageError, match=f"in use by process {os.getpid()} on "):
            locked(tmp_path).__enter__()
        with locked(tmp_path / "other"):
            assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"process": 1}'])
def test_a_lock_file_of_the_dead_is_taken_over_whatever_it_says(tmp_path, content):
    (tmp_path / ".lock").write_text(content)
    with locked(tmp_path):
        (tmp_path / ".lock").write_text(content)
        with pytest.raises(UsageError, match="in use by another process"):
            locked(tmp_path).__enter__()


def test_a_lock_that_its_holder_removed_is_no_lock(tmp_path, monkeypatch):
    """The second opens the file, the first removes it, the second gets a lock on nothing."""
    import fcntl

    removed = []

    def flock(file, how):
        if not removed:
            (tmp_path / ".lock").unlink()
            removed.append(file)
        return original(file, how)

    original = fcntl.flock
    monkeypatch.setattr("flaxlab.lock.fcntl.flock", flock)
    with locked(tmp_path), pytest.raises(UsageError, match="in use"):
        locked(tmp_path).__enter__()
