"""Better, worse, equivalent or undecided: by hand, and how often each is wrong."""

import numpy as np
import pytest
from scipy import stats

from flaxlab.compare.arm_verdict import arm_verdict, describe_verdict
from flaxlab.compare.outcomes import Design, Outcomes
from flaxlab.compare.results import Difference
from flaxlab.compare.statistics import mean_interval


def difference(values, comparisons=1):
    level = 0.05 / comparisons
    return Difference(
        estimate=mean_interval(values, 1 - level),
        inner=mean_interval(values, 1 - 2 * level),
        p=comparisons * stats.ttest_1samp(values, 0).pvalue,
        sign_flip_p=None,
        spread=0.001,
        level=level,
        test="paired",
        errors=None,
        pairing=None,
    )


ALL = Outcomes(tuple(range(5)), (), (), (), (), ())
WITHIN = "within the 0.5 points that count as no difference"
UNDECIDED = (
    "undecided at n = 5: -0.1 to +0.2 points; detecting a difference of +0.1 would take 19 more"
    " seeds"
)
CLOSE = (0.001, 0.002, -0.001, 0.0015, -0.0005)


@pytest.mark.parametrize(
    ("values", "within", "expected"),
    [
        ((0.02, 0.022, 0.019, 0.02, 0.021), 0.0, "better by 2.0 points at n = 5"),
        ((-0.02, -0.022, -0.019, -0.02, -0.021), 0.0, "worse by 2.0 points at n = 5"),
        (CLOSE, 0.0, UNDECIDED),
        (
            CLOSE,
            0.005,
            "equivalent at n = 5: +0.1 points, within the 0.5 points that count as no difference",
        ),
        (CLOSE, 0.001, UNDECIDED),
        (
            (0.002, 0.0022, 0.0019, 0.002, 0.0021),
            0.005,
            f"better by 0.2 points at n = 5, {WITHIN}",
        ),
    ],
)
def test_four_verdicts(values, within, expected):
    # 24 pairs show a difference of 0.6 spreads (Cohen, 1988): 19 more than five.
    design = Design(equivalent_within=within)
    found = difference(values)
    text = describe_verdict(found, design, ALL, ALL)
    assert text == expected
    assert text.startswith(arm_verdict(found, design))


def test_interval_and_verdict_never_disagree():
    """They did: -1.43 [-2.26, -0.61] was "no detectable difference", by Holm's p value."""
    rng = np.random.default_rng(3)
    for _ in range(300):
        values = rng.normal(0.01, 0.01, 3)
        found = difference(values, comparisons=5)
        word = arm_verdict(found, Design())
        out = found.estimate.low > 0 or found.estimate.high < 0
        assert (word in ("better", "worse")) == out == (found.p < 0.05)


def test_equivalence_is_falsely_found_in_one_of_twenty_studies_at_most():
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(1000):
        values = rng.normal(0.005, 0.004, 5)  # at the edge of the region
        word = arm_verdict(difference(values), Design(equivalent_within=0.005))
        found += word == "equivalent"
    assert found / 1000 < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 1000)
