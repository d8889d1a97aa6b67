"""Disks that are full, read-only or limited, and folders that vanish, while a run saves.

Whatever fails is said once, the training goes on, the next save tries again, and the exit code
tells whether something is missing at the end.
"""

import errno
import os
import resource
import shutil
import signal
import subprocess

import orbax.checkpoint as ocp
import pytest

from flaxlab import files
from flaxlab.checkpoints.manifest import find_damage
from flaxlab.errors import RunFailed
from flaxlab.main import main
from tests.helpers.processes import EPOCHS, STEPS_PER_EPOCH, TRAINING, Training
from tests.helpers.run_directories import (
    assert_same_outcome,
    history_rows,
    newest_step,
    outcome,
    require_clean,
    require_whole,
)

LAST = EPOCHS * STEPS_PER_EPOCH


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own: room for two or three checkpoints of the small network."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here ({made.stderr.strip()})")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def stop_after(training, epoch):
    """Stops the process for a while once an epoch is over, so that the disk can be changed."""
    training.wait_for_line(f"epoch {epoch}/{EPOCHS}")
    training.send(signal.SIGSTOP)


def fill(place):
    with (place / "other").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return


def test_a_disk_that_fills_up_and_has_room_again_costs_nothing(small_disk, undisturbed):
    workdir = small_disk / "run"
    training = Training(workdir)
    stop_after(training, 2)
    fill(small_disk)
    training.send(signal.SIGCONT)
    stop_after(training, 4)
    (small_disk / "other").unlink()
    training.send(signal.SIGCONT)
    code, _, errors = training.end()
    assert code == 0, errors
    assert errors.count("could not be saved") == 1
    assert "No space left on device" in errors
    assert "checkpoints can be saved again" in errors
    assert "Traceback" not in errors
    assert_same_outcome(outcome(workdir), undisturbed)


def test_a_disk_that_stays_full_is_told_and_the_last_good_checkpoint_stays(
    small_disk, undisturbed, capsys
):
    workdir = small_disk / "run"
    training = Training(workdir)
    stop_after(training, 3)
    fill(small_disk)
    training.send(signal.SIGCONT)
    code, shown, errors = training.end()
    assert code == 1, errors
    assert f"epoch {EPOCHS}/{EPOCHS}" in shown
    assert "failed: " in errors.splitlines()[-1]
    assert errors.count("could not be saved (") >= 1
    assert "Traceback" not in errors
    require_whole(workdir)
    # A failed save may have left room for the last checkpoint, but not for the report as well.
    kept = newest_step(workdir, "latest")
    assert 2 * STEPS_PER_EPOCH <= kept <= LAST
    assert not (workdir / "summary.json").exists()
    assert find_damage(workdir / "checkpoints/latest" / str(kept)) == []
    (small_disk / "other").unlink()
    main([*TRAINING, f"--workdir={workdir}"])
    assert "resuming after" in capsys.readouterr().out
    assert_same_outcome(outcome(workdir), undisturbed)
    require_clean(workdir)


def test_a_disk_that_becomes_read_only(small_disk, undisturbed):
    workdir = small_disk / "run"
    training = Training(workdir, "--config.log.tensorboard=false")
    stop_after(training, 2)
    if subprocess.run(["mount", "-o", "remount,ro", small_disk], capture_output=True).returncode:
        training.kill()
        pytest.skip("the file system cannot be made read-only while a file of it is open")
    training.send(signal.SIGCONT)
    stop_after(training, 4)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    training.send(signal.SIGCONT)
    code, _, errors = training.end()
    assert code == 0, errors
    assert errors.count("could not be saved") == 1
    assert "Traceback" not in errors
    assert_same_outcome(outcome(workdir), undisturbed)


def test_a_run_directory_that_vanishes_is_made_again(tmp_path, undisturbed):
    workdir = tmp_path / "run"
    training = Training(workdir)
    stop_after(training, 2)
    shutil.rmtree(workdir)
    training.send(signal.SIGCONT)
    code, _, errors = training.end()
    assert code == 0, errors
    assert "Traceback" not in errors
    found = outcome(workdir)
    for part in ("summary", "history", "predictions"):
        assert found[part] == undisturbed[part]


def test_a_limit_on_the_size_of_files(tmp_path, undisturbed):
    workdir = tmp_path / "run"

    training = Training(workdir)
    resource.prlimit(training.pid, resource.RLIMIT_FSIZE, (6000, 6000))
    code, shown, errors = training.end()
    assert code == 1, errors
    assert f"epoch {EPOCHS}/{EPOCHS}" in shown
    assert "File too large" in errors
    assert "Traceback" not in errors
    main([*TRAINING, f"--workdir={workdir}"])
    assert_same_outcome(outcome(workdir), undisturbed)


def test_a_report_without_a_last_checkpoint_is_no_complete_run(tmp_path, monkeypatch):
    def full(self, step, args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    written, write = [], files.write_bytes

    def recorded(path, content):
        written.append(path.name)
        write(path, content)

    monkeypatch.setattr(files, "write_bytes", recorded)
    arguments = [*TRAINING, "--config.train.epochs=1", f"--workdir={tmp_path}"]
    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", full)
        with pytest.raises(RunFailed, match=r"last state could not be saved \(No space left"):
            main(arguments)
    assert (tmp_path / "report.html").exists()
    # Not for a moment: killed then, the run would be taken for complete.
    assert "summary.json" not in written
    assert not (tmp_path / "summary.json").exists()
    main(arguments)
    assert written.count("summary.json") == 1
    assert written[-1] == "summary.json"
    require_whole(tmp_path)
    assert len(history_rows(tmp_path)) == 1
    assert (tmp_path / "summary.json").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_line(tmp_path):
    tmp_path.chmod(0o555)
    code, _, errors = Training(tmp_path / "run").end()
    tmp_path.chmod(0o755)
    assert code == 2
    assert errors.count("\n") == 1


def test_a_read_only_disk_is_one_line_before_the_training(small_disk):
    workdir = small_disk / "run"
    workdir.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    code, _, errors = Training(workdir).end()
    assert code == 2
    assert errors.startswith("error: ")
    assert "Read-only file system" in errors
    assert errors.count("\n") == 1
    assert history_rows(workdir) == []
