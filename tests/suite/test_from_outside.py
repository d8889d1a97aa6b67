"""Ablations and a network outside flaxlab, each in a file of a few lines."""

import numpy as np

import flaxlab
from flaxlab.compare.runs import find_runs
from flaxlab.evaluate.__main__ import main as evaluate
from flaxlab.export.__main__ import main as export
from flaxlab.suite.__main__ import main
from tests.helpers.runs import SMALL_RUN

ABLATIONS = {
    "before_the_pool": 'config.model.norm_place = "after_activation"',
    "smooth": 'config.model.block_activation = "gelu"',
    "grouped": 'config.model.norm, config.model.norm_groups = "group", 2',
}
EXPERIMENT = """
from experiments import alexnet_pool


def get_config():
    config = alexnet_pool.get_config()
    config.baseline = "alexnet_pool"
    {change}
    return config
"""
SUITE = """
from flaxlab.suite.definition import Suite


def get_suite():
    return Suite(name="mine", baseline="alexnet_pool", arms={arms!r})
"""


def test_three_ablations_and_their_suite(tmp_path, capsys):
    for name, change in ABLATIONS.items():
        text = EXPERIMENT.format(change=change)
        assert len(text.splitlines()) < 20
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "mine.py").write_text(SUITE.format(arms=tuple(ABLATIONS)))
    runs = tmp_path / "runs"
    small = [*SMALL_RUN, "--config.train.epochs=1"]
    main([f"--config={tmp_path / 'mine.py'}", f"--workdir={runs}", "--seeds=1", *small])
    finished, _ = find_runs([runs])
    assert {run.config.name for run in finished} == {"alexnet_pool", *ABLATIONS}
    page = (runs / "comparison.md").read_text()
    images = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
    logits = {}
    for name in ABLATIONS:
        assert f"| {name} |" in page
        run = runs / name / "seed_0"
        model, variables, config = flaxlab.load(run)
        assert config.name == name
        logits[name] = model.apply(variables, images, train=False)
        evaluate([str(run)])
        export([str(run), f"--to={tmp_path / 'exported' / name}"])
    assert "batch_stats" not in flaxlab.load(runs / "grouped" / "seed_0")[1]
    assert len({tuple(np.ravel(each).tolist()) for each in logits.values()}) == 3
    capsys.readouterr()


RESIDUAL = """\
import flax.linen as nn
from flaxlab.config import default_config

class Residual(nn.Module):
    num_classes: int
    shortcut: bool = True

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(4, (3, 3))(images)
        for _ in range(2):
            y = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3))(x))
            x = nn.relu(x + y if self.shortcut else y)
        return nn.Dense(self.num_classes, name="output")(x.mean((1, 2)))

def get_config():
    return default_config(Residual)
"""
SHORTCUTS = """\
from flaxlab.suite.definition import Suite
from flaxlab.suite.designs import sweep

def get_suite():
    return Suite(name="mine", baseline="residual", arms=sweep("model.shortcut", (False,)))
"""


def test_a_residual_network_and_its_suite(tmp_path, capsys):
    for name, text in (("residual", RESIDUAL), ("shortcuts", SHORTCUTS)):
        assert len(text.splitlines()) < 20
        (tmp_path / f"{name}.py").write_text(text)
    runs, network = tmp_path / "runs", f"{tmp_path / 'residual.py'}:Residual"
    small = [option for option in SMALL_RUN if not option.startswith("--config.model.")]
    small.append("--config.train.epochs=1")
    main([f"--config={tmp_path / 'shortcuts.py'}", f"--workdir={runs}", "--seeds=1", *small])
    assert "| shortcut=False |" in (runs / "comparison.md").read_text()
    images = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)
    logits = []
    for run in sorted(runs.glob("*/seed_0")):
        model, variables, _ = flaxlab.load(run, model=network)
        logits.append(model.apply(variables, images, train=False))
        evaluate([str(run), f"--model={network}"])
        export([str(run), f"--model={network}", f"--to={tmp_path / run.parent.name}"])
    with_shortcut, without = logits
    assert not np.allclose(with_shortcut, without)
    capsys.readouterr()
