"""Starts real training processes, kills them, and looks at what they leave behind."""

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from flaxlab.checkpoints.find import find_saved
from flaxlab.checkpoints.manifest import find_damage
from flaxlab.checkpoints.read import list_leaves, read_leaves
from tests.conftest import POOL_FILE, SMALL_RUN

EPOCHS = 6
STEPS_PER_EPOCH = 10  # 9 with a holdout

# Those of SMALL_RUN with more to lose: more epochs, saves inside of them, and events.
TRAINING = [
    f"--config={POOL_FILE}",
    *SMALL_RUN,
    f"--config.train.epochs={EPOCHS}",
    "--config.checkpoint.every_steps=3",
    "--config.log.tensorboard=true",
    "--config.log.progress=lines",
]
# What depends on the clock, or on how a run was started.
TIMED = {"seconds", "images_per_second"}


class Training:
    """A process of `flaxlab.main`."""

    def __init__(self, workdir, *overrides, **options):
        """Starts it in `workdir`; `options` are those of `Popen`."""
        self.workdir = Path(workdir)
        command = [sys.executable, "-m", "flaxlab.main", *TRAINING, *overrides]
        self._process = subprocess.Popen(
            [*command, f"--workdir={workdir}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
            **options,
        )

    def send(self, number):
        self._process.send_signal(number)

    @property
    def pid(self):
        return self._process.pid

    def wait_for(self, condition, seconds=120.0):
        """Waits until `condition()` holds or the process ends; returns whether it holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            if condition():
                return True
            time.sleep(0.001)
        return bool(condition())

    def wait_for_line(self, text):
        """Reads standard output up to a line with `text` in it."""
        for line in self._process.stdout:
            if text in line:
                return line
        raise AssertionError(f"no line with {text!r}: {self._process.stderr.read()}")

    def kill(self):
        """Kills it; returns whether it was still alive, and what it has shown."""
        alive = self._process.poll() is None
        self._process.kill()
        return alive, self.end()[1]

    def end(self, seconds=180.0):
        """Waits for its end; returns (exit code, standard output, standard error)."""
        shown, errors = self._process.communicate(timeout=seconds)
        return self._process.returncode, shown, errors


def unfinished_saves(workdir):
    """Lists the folders of saves that are under way, or were when the process was killed."""
    return list(Path(workdir).glob("checkpoints/*/*orbax-checkpoint-tmp*"))


def history_rows(workdir):
    """Reads history.csv, which must be whole; {} a row."""
    path = Path(workdir) / "history.csv"
    if not path.exists():
        return []
    text = path.read_text()
    assert text.endswith("\n")
    rows = list(csv.DictReader(text.splitlines()))
    for number, row in enumerate(rows, 1):
        assert row["epoch"] == str(number)
        assert None not in row
        assert None not in row.values()
    return rows


def newest_step(workdir, kind):
    """Returns the newest checkpoint of a kind; 0 if there is none."""
    names = [path.name for path in Path(workdir).glob(f"checkpoints/{kind}/*")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def require_whole(workdir):
    """Fails if any file of a run directory was written half, whatever happened to its process."""
    workdir = Path(workdir)
    for name in ("config.json", "summary.json"):
        if (workdir / name).exists():
            json.loads((workdir / name).read_text())
    for path in workdir.glob("*.png"):
        with Image.open(path) as image:
            image.load()
    if (workdir / "report.html").exists():
        assert (workdir / "report.html").read_text().rstrip().endswith("</html>")
    if (workdir / "predictions.npz").exists():
        with np.load(workdir / "predictions.npz", allow_pickle=False) as stored:
            assert len(stored["logits"]) == len(stored["labels"])
    # An older checkpoint may have been on its way out; the newest one counts.
    for kind in ("latest", "best", "midway"):
        newest = newest_step(workdir, kind)
        if newest:
            assert find_damage(workdir / "checkpoints" / kind / str(newest)) == []
    # What is shown as saved is saved.
    rows = history_rows(workdir)
    if rows:
        config = json.loads((workdir / "config.json").read_text())
        holdout = config["data"]["validation"] == "holdout"
        assert len(rows) * (STEPS_PER_EPOCH - holdout) <= newest_step(workdir, "latest")


def require_clean(workdir):
    """Fails if a finished run left anything behind that is not its result."""
    workdir = Path(workdir)
    assert not unfinished_saves(workdir)
    assert not list(workdir.glob(".*"))
    assert not list((workdir / "checkpoints/midway").iterdir())


def outcome(workdir):
    """Returns everything that a run determines, as comparable values."""
    workdir = Path(workdir)
    summary = json.loads((workdir / "summary.json").read_text())
    for key in (*TIMED, "command"):
        del summary[key]
    rows = [
        {key: value for key, value in row.items() if key not in TIMED}
        for row in history_rows(workdir)
    ]
    with np.load(workdir / "predictions.npz", allow_pickle=False) as stored:
        predictions = {name: stored[name].tobytes() for name in stored}
    arrays = {}
    newest = {saved.kind: saved for saved in find_saved(workdir)}
    for kind, saved in newest.items():
        leaves = list_leaves(saved.trees["state"])
        for leaf, array in read_leaves(saved.trees["state"], leaves):
            arrays[kind, saved.step, leaf.path] = np.asarray(array).tobytes()
    return {
        "summary": summary,
        "history": rows,
        "predictions": predictions,
        "confusion": (workdir / "confusion_matrix.csv").read_bytes(),
        "arrays": arrays,
    }


def assert_same(found, expected):
    for part in expected:
        assert found[part] == expected[part], part
    assert len(found["arrays"]) > 20


def stop_at(count):
    """Returns a `stop` that says so when it is asked for the `count`-th time."""
    calls = itertools.count(1)
    return lambda: signal.SIGTERM if next(calls) == count else None
