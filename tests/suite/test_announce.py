"""What a suite says before its first run."""

from flaxlab.suite.__main__ import main
from tests.helpers.runs import SMALL_RUN

SUITE = """
from flaxlab.suite.definition import Suite
from flaxlab.suite.designs import sweep


def get_suite():
    arms = (
        *sweep("model.block_dropout_kind", ("channel",)),  # of no dropout
        *sweep("optimizer.weight_decay", (0.1,)),  # adam has none
        *sweep("model.norm_groups", (2,)),  # of group normalization
        *sweep("model.norm", ("group",)),
        *sweep("optimizer.b1", (0.8,)),
        *sweep("train.epochs", (2,)),
    )
    return Suite(name="idle", baseline="alexnet_pool", arms=arms)
"""


def test_arms_that_compute_the_same_are_named(tmp_path, capsys):
    (tmp_path / "idle.py").write_text(SUITE)
    small = [*SMALL_RUN, "--config.model.norm_groups=4"]
    main([f"--config={tmp_path / 'idle.py'}", f"--workdir={tmp_path / 'runs'}", "--show", *small])
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if "computes what" in line] == [
        f"warning ({arm}): it computes what alexnet_pool computes: {field} changes nothing here."
        for arm, field in (
            ("block_dropout_kind=channel", "model.block_dropout_kind"),
            ("weight_decay=0.1", "optimizer.weight_decay"),
            ("norm_groups=2", "model.norm_groups"),
        )
    ]
