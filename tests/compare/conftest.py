"""A suite of finished runs, for the tests that compare them."""

import pytest

from tests.helpers.finished_runs import write_run


@pytest.fixture
def suite(tmp_path):
    """Three arms with three seeds: one is surely worse, one is not told apart."""
    finals = {
        "alexnet_default": (0.850, 0.860, 0.855),
        "alexnet_no_dropout": (0.800, 0.811, 0.804),
        "alexnet_pool": (0.848, 0.866, 0.852),
    }
    for name, values in finals.items():
        for seed, value in enumerate(values):
            write_run(tmp_path / name / f"seed_{seed}", name, seed, [0.5, 0.9 * value, value])
    return tmp_path
