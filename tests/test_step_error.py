"""`make numbers`: what it compares, what it calls wrong, and two small networks by its functions.

The networks run in processes of their own, with the flags of a user's run: those of the tests
leave machine code as it comes.
"""

import json
import math

import pytest

from benchmarks import step_error
from benchmarks.step_error import Comparison, Errors
from flaxlab.errors import RunFailed
from tests.helpers.processes import run_code
from tests.helpers.report_facts import PARAMETERS

# Fewer layers, narrower heads: the time goes into compiling.
COMPARE = """
import importlib, json, sys
from benchmarks.step_error import compare

config = importlib.import_module(f"experiments.{sys.argv[1]}").get_config()
config.model.blocks = tuple(block[:1] for block in config.model.blocks)
config.model.head_units = (1024, 1024)
found = compare(config, batch_size=16)
print(json.dumps([found.ours, found.plain, found.broken()]))
"""


@pytest.mark.parametrize("network", ["alexnet_pool", "vgg_default"])
def test_a_step_as_it_is_trained_is_as_near_to_float64_as_float32_can_be(network):
    ended = run_code(COMPARE, network, environment={"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"})
    assert ended.code == 0, ended.errors
    ours, plain, broken = json.loads(ended.shown)
    assert broken == []
    # Else the masks would differ, or float64 would be float32, or one way would be the other.
    assert 0 < plain[0] < 1e-5
    assert 0 < plain[1] < 1e-1
    assert ours != plain


def test_the_networks_are_those_of_the_report():
    assert tuple(PARAMETERS) == step_error.NETWORKS


def compared(loss: float, gradients: float) -> Comparison:
    return Comparison(Errors(loss, gradients), Errors(1e-7, 1e-3), units=64 * 4096)


def test_errors_are_bound_by_those_of_plain_lax():
    bounds = compared(0, 0).bounds
    assert bounds.loss == pytest.approx(2e-6 + 1e-5)
    assert bounds.gradients == pytest.approx(4.472e-3 + 4.5 / 512, rel=1e-3)
    assert compared(1.1e-5, 1.3e-2).broken() == []
    loss = "loss: 1.3e-05 from float64, at most 1.2e-05 is right"
    gradients = "gradients: 1.4e-02 from float64, at most 1.3e-02 is right"
    assert compared(1.3e-5, 1.4e-2).broken() == [loss, gradients]
    assert len(compared(math.nan, math.inf).broken()) == 2


def test_errors_are_relative_and_gradients_are_taken_together():
    right = step_error.Step(-2.0, {"a": [3.0, 0.0], "b": [[4.0]]})
    found = step_error.Step(-2.5, {"a": [3.0, 0.3], "b": [[4.4]]})
    assert step_error.errors(found, right) == pytest.approx((0.25, 0.1))


def test_the_networks_that_fail_are_named_after_the_table(monkeypatch, capsys):
    found = iter([compared(1e-7, 1e-3), compared(1e-7, math.nan), compared(1.0, 1e-3)])
    monkeypatch.setattr(step_error, "compare", lambda config, batch_size: next(found))
    names = ["alexnet_l2", "vgg_fashion", "vgg_default"]
    with pytest.raises(RunFailed) as failed:
        step_error.main(["--networks", *names])
    first, second = str(failed.value).split("; ")
    assert first.startswith("vgg_fashion, gradients: nan")
    assert second.startswith("vgg_default, loss: 1.0e+00")
    shown = capsys.readouterr().out
    assert [line.split("`")[1] for line in shown.splitlines()[4:]] == names
