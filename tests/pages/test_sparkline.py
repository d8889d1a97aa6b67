"""A small curve, by hand."""

import re

from flaxlab.pages.sparkline import sparkline


def points(element):
    listed = re.search(r'points="([^"]*)"', element)[1].split()
    return [tuple(map(float, pair.split(","))) for pair in listed]


def test_a_curve_goes_from_edge_to_edge_and_up_is_more():
    """120 by 28 pixels, with a margin of 3."""
    element = sparkline([0.5, 0.75, 1.0], 0.5, 1.0, 3, "rises")
    assert points(element) == [(3, 25), (60, 14), (117, 3)]
    assert '<circle cx="117.0" cy="3.0"' in element


def test_a_run_that_stopped_early_has_a_short_curve():
    assert points(sparkline([0.5, 0.5], 0.0, 1.0, 5, "stops")) == [(3, 14), (31.5, 14)]


def test_one_value_on_one_level_is_a_dot():
    assert points(sparkline([0.3], 0.3, 0.3, 1, "one")) == [(3, 25)]


def test_its_text_is_escaped():
    assert 'aria-label="&lt;&#34;"' in sparkline([1.0], 0.0, 1.0, 1, '<"')
