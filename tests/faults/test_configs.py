"""Random configs either train two steps or end in one line; never in a traceback."""

import logging
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flaxlab import config as configs
from flaxlab.command_line import run_command
from flaxlab.config.rules import _RULES
from flaxlab.main import main
from tests.helpers.runs import SMALL_POOL

# Two steps of eight examples.
BASE = [
    *SMALL_POOL,
    "--config.data.train_examples=16",
    "--config.data.test_examples=10",
    "--config.train.batch_size=8",
    "--config.train.epochs=1",
]
# What would look for data sets elsewhere, or name another run, is a test of its own.
LEFT_OUT = ("data.data_dir", "data.folder", "train.init_from", "name", "baseline")

WORDS = ["adam", "sgd", "adamw", "cosine", "step", "constant", "relu", "tanh", "max", "avg"]
WORDS += ["SAME", "VALID", "test", "holdout", "skip", "stop", "unit", "raw", "bfloat16", "digits"]
WORDS += ["resident", "streamed", "auto", "none", "bar", "lines", "", " ", "é", "None", "-1"]
INTEGERS = st.integers(-2, 40) | st.just(2**63)
FLOATS = st.sampled_from([-1.0, 0.0, 1e-300, 1e-8, 0.1, 0.5, 1.0, 3.0, 1e30, math.nan, math.inf])
TUPLES = st.recursive(
    st.integers(-1, 9) | st.sampled_from([0.0, 0.5, 1.0, "x"]),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=8,
)


def values(default):
    """Values of the kind of a field, and now and then of another one."""
    if isinstance(default, bool):
        return st.booleans()
    if isinstance(default, tuple):
        return TUPLES.filter(lambda value: isinstance(value, tuple))
    kinds = {int: INTEGERS, float: FLOATS | INTEGERS, str: st.sampled_from(WORDS)}
    return kinds.get(type(default), INTEGERS)


def overrides():
    fields = dict(configs.flatten(configs.default_config()))
    settable = {path: value for path, value in fields.items() if path not in LEFT_OUT}

    def chosen(path):
        other = st.sampled_from(WORDS) | FLOATS | INTEGERS
        return (values(settable[path]) | other).map(lambda value: f"--config.{path}={value}")

    one = st.sampled_from(sorted(settable)).flatmap(chosen)
    return st.lists(one, min_size=1, max_size=3)


def affordable(arguments):
    """Leaves out what would be right and take for ever."""
    return f"--config.train.epochs={2**63}" not in arguments


def test_random_configs_train_or_end_in_one_line(tmp_path_factory, capsys, request):
    seen = {}

    @settings(
        max_examples=request.config.getoption("cases"),
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(overrides().filter(affordable))
    def check(arguments):
        workdir = tmp_path_factory.mktemp("random")
        with pytest.raises(SystemExit) as stop:
            run_command(main, [*BASE, *arguments, f"--workdir={workdir}"])
        errors = capsys.readouterr().err
        last = errors.strip().splitlines()[-1:]
        seen[stop.value.code] = seen.get(stop.value.code, 0) + 1
        if stop.value.code == 0:
            assert (workdir / "summary.json").exists()
        elif stop.value.code == 1:  # right, and yet it could not be trained
            assert "NaN or infinite" in last[0]
        else:
            assert stop.value.code == 2
            assert last[0].startswith("error: ")
            assert not (workdir / "summary.json").exists()
        assert "Traceback" not in errors

    check()
    logging.getLogger("flaxlab").handlers = []
    with capsys.disabled():
        print(f"\nrandom configs by exit code: {seen}")


def test_every_rule_is_of_a_field_that_there_is():
    assert _RULES.keys() <= dict(configs.flatten(configs.default_config())).keys()
