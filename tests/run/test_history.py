"""The history of a run: its best row, and when early stopping ends it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaxlab.run.history import best_row
from flaxlab.training.metrics import Row, stops_early


def rows(accuracies):
    return [Row(n, 0.0, 0.0, 0.0, value, 0.0) for n, value in enumerate(accuracies, start=1)]


@pytest.mark.parametrize(
    ("accuracies", "patience", "delta", "stops"),
    [
        ([0.5, 0.4, 0.4], 0, 0.0, False),
        ([0.5, 0.4], 2, 0.0, False),
        ([0.5, 0.4, 0.5], 2, 0.0, True),
        ([0.5, 0.4, 0.6, 0.6], 2, 0.0, False),
        ([0.5, 0.505, 0.509], 2, 0.01, True),
        ([], 1, 0.0, False),
    ],
)
def test_when_early_stopping_stops(accuracies, patience, delta, stops):
    assert stops_early(rows(accuracies), patience, delta) == stops


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=1))
def test_the_best_row_is_the_earliest_of_the_highest(accuracies):
    assert best_row(rows(accuracies)).epoch == 1 + accuracies.index(max(accuracies))
