"""The Python API in a notebook: one kernel runs all of it, as a reader would."""

import json

import nbclient
import nbformat
import numpy as np
import pytest
from traitlets.config import Config

from tests.helpers.runs import ROOT
from tests.helpers.samples import strangers_arrays

# A network that compiles in a moment.
EXPERIMENT = """
import flax.linen as nn
from flaxlab.config import default_config

class Dense(nn.Module):
    num_classes: int
    units: int = 8

    @nn.compact
    def __call__(self, images, train):
        hidden = nn.relu(nn.Dense(self.units)(images.reshape(len(images), -1)))
        return nn.Dense(self.num_classes)(hidden)

def get_config():
    config = default_config(Dense)
    config.data.name, config.data.image_shape = "digits", (8, 8, 1)
    config.train.epochs, config.train.batch_size = 4, 32
    config.log.tensorboard = False
    return config
"""

CELLS = {
    "trained": """
config = flaxlab.configure("dense.py", **{"train.epochs": 2})
run = flaxlab.fit(config, workdir="runs/mine")
""",
    "shown": "run",
    "drawn": "run.plot()",
    "read": """
print([row.epoch for row in run.history], int(run.state.step), run.summary["dataset"])
print(run.evaluate()["accuracy"] == run.history[-1].val_accuracy)
model, variables, _ = flaxlab.load("runs/mine", model="dense.py:Dense")
""",
    "report": "run.report()",
    "again": "print(flaxlab.fit(config, workdir='runs/mine') == run)",
    "changed": """
try:
    flaxlab.fit(flaxlab.configure(config, seed=1), workdir="runs/mine")
except Exception as error:
    print(f"{type(error).__name__}: {error}")
""",
    "arrays": """
import numpy as np
x, y, x_test, y_test = (np.load(f"{name}.npy") for name in ("x", "y", "x_test", "y_test"))
config.train.epochs = 1
own = flaxlab.fit(config, data=(x / 255, y, x_test / 255, y_test), class_names=list("abcde"))
print(own.folder, own.config.data.name, own.config.data.image_shape, config.data.name)
print(own.predict(x_test).shape, list(own.evaluate()["classes"]))
""",
    "interrupted": """
import os, pathlib, signal, threading, time
import flax.linen as nn
from flaxlab.config import default_config

class Tiny(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, images, train):
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1))

tiny = flaxlab.configure(default_config(Tiny), name="tiny", **{"data.name": "digits"})
tiny.data.image_shape = (8, 8, 1)
tiny.train.epochs, tiny.checkpoint.epoch_seconds, tiny.log.tensorboard = 100_000, 0.0, False

def interrupt():
    while not pathlib.Path("runs/tiny/history.csv").exists():
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)  # must not end the kernel

threading.Thread(target=interrupt).start()
try:
    flaxlab.fit(tiny)
except KeyboardInterrupt as error:
    print(f"KeyboardInterrupt: {error}")
""",
    "resumed": """
reached = len(flaxlab.open_run("runs/tiny").history)
tiny.train.epochs = reached + 1
run = flaxlab.fit(tiny)
print(len(run.history) - reached, run.predict(np.zeros((2, 8, 8), np.uint8)).shape)
""",
    "suite": """
suite = flaxlab.run_suite(
    "dense.py", "runs/suite", seeds=1, sweep={"model.units": [8, 6]}, **{"train.epochs": 1}
)
""",
    "compared": "suite.compare()",
    "seeds": "suite.compare().plot()",
    "page": "suite.report()",
}


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """Runs all cells; returns what each of them shows by its MIME type, and their folder."""
    folder = tmp_path_factory.mktemp("notebook")
    for name, array in zip(("x", "y", "x_test", "y_test"), strangers_arrays(), strict=True):
        np.save(folder / f"{name}.npy", array)
    (folder / "dense.py").write_text(EXPERIMENT)
    first = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import flaxlab"
    cells = [nbformat.v4.new_code_cell(source) for source in (first, *CELLS.values())]
    # Sockets of files: Jupyter warns of open ports.
    sockets = {"transport": "ipc", "ip": str(tmp_path_factory.mktemp("k") / "s")}
    client = nbclient.NotebookClient(
        nbformat.v4.new_notebook(cells=cells),
        timeout=400,
        resources={"metadata": {"path": str(folder)}},
        config=Config({"KernelManager": sockets}),
    )
    executed = client.execute()
    shown = {name: _shown(cell) for name, cell in zip(CELLS, executed.cells[1:], strict=True)}
    return shown, folder


def _shown(cell):
    found = {}
    for output in cell.outputs:
        new = {output.name: output.text} if "text" in output else output.data
        found |= {kind: found.get(kind, "") + text for kind, text in new.items()}
    return found


def test_a_run_shows_its_lines_and_its_bar_is_gone(notebook):
    shown, folder = notebook
    lines = shown["trained"]["stdout"]
    assert lines.count("\nepoch ") == 2
    assert "validation accuracy" in lines
    assert "\x1b" not in lines
    assert shown["trained"]["text/html"] == ""
    command = json.loads((folder / "runs/mine/summary.json").read_text())["command"]
    assert "--config.train.epochs=2" in command
    assert command.endswith("--workdir=runs/mine")


def test_a_run_draws_itself_with_its_numbers_and_a_link(notebook):
    shown, folder = notebook
    text = shown["shown"]["text/html"]
    summary = json.loads((folder / "runs/mine/summary.json").read_text())
    assert f"{summary['final_val_accuracy']:.4f}" in text
    assert "data:image/png;base64," in text
    assert 'href="runs/mine/report.html"' in text
    assert len(shown["drawn"]["image/png"]) > 10_000
    assert "&lt;!doctype html&gt;" in shown["report"]["text/html"]


def test_a_run_can_be_read_and_scored(notebook):
    assert notebook[0]["read"]["stdout"].splitlines() == ["[1, 2] 90 Digits", "True"]


def test_a_cell_that_is_run_again_says_so_and_trains_nothing(notebook):
    first, second = notebook[0]["again"]["stdout"].splitlines()
    assert first.startswith("the run in runs/mine is finished")
    assert second == "True"


def test_a_changed_config_is_refused_in_the_line_of_the_command(notebook):
    assert notebook[0]["changed"]["stdout"] == (
        "UsageError: the run in this --workdir was started with another config (seed: 0 there, 1"
        " now); use another --workdir, or the old values\n"
    )


def test_a_strangers_arrays_are_trained_on(notebook):
    *lines, where, scored = notebook[0]["arrays"]["stdout"].splitlines()
    assert "arrays given in Python, float64 in [0, 1] rounded to 256 levels." in "".join(lines)
    assert where == "runs/dense arrays (9, 11, 1) digits"
    assert scored == "(25, 5) ['a', 'b', 'c', 'd', 'e']"


def test_an_interrupted_cell_leaves_a_run_that_goes_on(notebook):
    shown, _ = notebook
    last = shown["interrupted"]["stdout"].splitlines()[-1]
    assert last.startswith("KeyboardInterrupt: after ")
    assert "everything is saved" in last
    assert "resuming after" in shown["resumed"]["stdout"]
    assert shown["resumed"]["stdout"].splitlines()[-1] == "1 (2, 10)"


def test_a_suite_shows_its_table_and_its_page(notebook):
    shown, _ = notebook
    assert "\x1b" not in shown["suite"]["stdout"]
    assert "[2/2] units=6, seed 0" in shown["suite"]["stdout"]
    table = shown["compared"]["text/html"]
    assert table.count("<tr>") == 3
    assert "the baseline" in table
    assert len(shown["seeds"]["image/png"]) > 5_000
    assert "comparison.html" in shown["page"]["text/html"]
