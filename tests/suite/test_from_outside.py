"""The first ablations that come to mind, each a file of a few lines outside flaxlab."""

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
