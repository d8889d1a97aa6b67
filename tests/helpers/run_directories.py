"""What is found in the directory of a run, finished or killed."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from flaxlab.checkpoints.find import find_saved
from flaxlab.checkpoints.manifest import find_damage
from flaxlab.checkpoints.read import list_leaves, read_leaves
from tests.helpers.comparing import TIMED
from tests.helpers.processes import STEPS_PER_EPOCH


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
    newest = {kind: newest_step(workdir, kind) for kind in ("latest", "best", "midway")}
    for kind, step in newest.items():
        if step:
            assert find_damage(workdir / "checkpoints" / kind / str(step)) == []
    saved, kind = max((newest[kind], kind) for kind in ("latest", "midway"))
    if not saved:
        assert history_rows(workdir) == []
        return
    config = json.loads((workdir / "config.json").read_text())
    steps = STEPS_PER_EPOCH - (config["data"]["validation"] == "holdout")
    # What is shown as saved is saved.
    assert len(history_rows(workdir)) * steps <= saved
    record = workdir / "checkpoints" / kind / str(saved) / "record/metadata"
    if history := json.loads(record.read_text())["history"]:
        best = max(history, key=lambda row: row["val_accuracy"])
        assert (workdir / "checkpoints/best" / str(best["epoch"] * steps)).is_dir()


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
        "steps": (workdir / "steps.csv").read_text(),
        "predictions": predictions,
        "confusion": (workdir / "confusion_matrix.csv").read_bytes(),
        "arrays": arrays,
    }


def assert_same_outcome(found, expected):
    """Fails unless two outcomes are the same in every part."""
    for part in expected:
        assert found[part] == expected[part], part
    assert len(found["arrays"]) > 20
