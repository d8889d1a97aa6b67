"""What test modules share is in tests/helpers, and the comparisons there see a difference."""

import ast

import jax
import numpy as np
import pytest

from tests.helpers.comparing import assert_close, assert_same_bits
from tests.helpers.runs import ROOT

MODULES = sorted((ROOT / "tests").rglob("*.py"))


def imported(path):
    """Lists the modules of the tests that a file imports, as "tests.folder.module"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # Of a module, or of a package one of its modules.
            start = "." * node.level + (node.module or "")
            names = [start, *(f"{start}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.startswith(("tests.", ".")))


def test_no_test_module_imports_another():
    found = {path.relative_to(ROOT).as_posix(): set(imported(path)) for path in MODULES}
    assert any("tests.helpers.runs" in names for names in found.values())
    others = {
        path: [name for name in names if not name.startswith("tests.helpers")]
        for path, names in found.items()
    }
    assert {path: names for path, names in others.items() if names} == {}


TREE = {"weights": np.ones(3, np.float32), "key": jax.random.key(0)}


@pytest.mark.parametrize(
    "other",
    [
        {**TREE, "weights": np.array([1, 1, np.nextafter(np.float32(1), 2)], np.float32)},
        {**TREE, "weights": np.ones(3, np.float64)},
        {**TREE, "key": jax.random.key(1)},
        {"weights": TREE["weights"]},
        {"other": TREE["weights"], "key": TREE["key"]},
    ],
    ids=["bit", "dtype", "key", "fewer", "path"],
)
def test_the_same_bits_are_the_same_bits(other):
    assert_same_bits(TREE, TREE)
    with pytest.raises(AssertionError):
        assert_same_bits(other, TREE)


def test_close_is_within_rounding():
    assert_close({**TREE, "weights": TREE["weights"] + np.float32(1e-6)}, TREE)
    for other in ({**TREE, "weights": TREE["weights"] + 1e-4}, {**TREE, "key": jax.random.key(1)}):
        with pytest.raises(AssertionError):
            assert_close(other, TREE)
