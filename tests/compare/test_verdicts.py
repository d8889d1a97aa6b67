"""What becomes of claims and arms: by hand, and where the older procedures went wrong."""

import numpy as np
import pytest
from scipy import stats

from experiments.claims import CLAIMS
from flaxlab.claims import Claim, Collapses, Statement, claims_from_json, claims_to_json
from flaxlab.compare.claims_table import part_texts
from flaxlab.compare.outcomes import Outcomes
from flaxlab.compare.run_scores import spread_between_epochs
from flaxlab.compare.statistics import t_test
from flaxlab.compare.verdicts import ArmValues, decide
from flaxlab.errors import UsageError

A_OVER_B = Statement("accuracy", "a", "b")


def outcomes(learned=(), collapsed=(), diverged=(), failed=(), missing=()):
    groups = (learned, collapsed, diverged, failed, (), missing)
    return Outcomes(*map(tuple, groups))


def arms_of(quantity="accuracy", step=0.0, **columns):
    return {
        name: ArmValues(
            {seed: {quantity: value} for seed, value in enumerate(column)},
            outcomes(learned=range(len(column))),
            {quantity: step},
        )
        for name, column in columns.items()
    }


def decided(statements, arms):
    claims = {1: Claim("It is so.", "digits", tuple(statements))}
    (judged,) = decide(claims, {"digits": arms})
    return judged


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0.90, 0.91, 0.92), (0.80, 0.81, 0.821), "supported"),
        ((0.80, 0.81, 0.821), (0.90, 0.91, 0.92), "contradicted"),
        ((0.90, 0.80, 0.92), (0.80, 0.91, 0.821), "undecided"),
        ((0.90,), (0.80,), "undecided"),
        ((), (0.80,), "not tested"),
    ],
)
def test_a_claim_of_one_part_is_decided_by_its_t_test(a, b, expected):
    judged = decided([A_OVER_B], arms_of(a=a, b=b))
    assert judged.verdict.word == judged.parts[0].word == expected
    if len(a) > 1:
        assert judged.verdict.p == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_a_statement_about_a_number():
    arms = arms_of(a=(0.86, 0.87, 0.865))
    assert decided([Statement("accuracy", "a", 0.8)], arms).verdict.word == "supported"
    assert decided([Statement("accuracy", 0.8, "a")], arms).verdict.word == "contradicted"


# a is above b for sure, b above c by chance, and nobody has d.
PARTS = {
    "sure": Statement("accuracy", "a", "b"),
    "unsure": Statement("accuracy", "b", "c"),
    "wrong": Statement("accuracy", "b", "a"),
    "absent": Statement("accuracy", "a", "d"),
}
ARMS = arms_of(
    a=(0.90, 0.91, 0.92, 0.91), b=(0.80, 0.81, 0.821, 0.812), c=(0.80, 0.80, 0.831, 0.80)
)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["sure"], "supported"),
        (["sure", "sure"], "supported"),
        (["sure", "unsure"], "undecided"),
        (["sure", "wrong"], "contradicted"),
        (["sure", "absent"], "undecided"),
        (["wrong", "absent"], "contradicted"),
        (["absent"], "not tested"),
    ],
)
def test_a_claim_is_supported_by_all_and_contradicted_by_one(parts, expected):
    assert decided([PARTS[part] for part in parts], ARMS).verdict.word == expected


def test_each_part_has_its_own_verdict():
    """Claim 7 hid a sure half behind an unsure one."""
    judged = decided([PARTS[part] for part in ("sure", "unsure", "absent")], ARMS)
    assert [part.word for part in judged.parts] == ["supported", "undecided", "not tested"]
    sure = stats.ttest_rel([0.90, 0.91, 0.92, 0.91], [0.80, 0.81, 0.821, 0.812]).pvalue
    assert judged.parts[0].p == pytest.approx(2 * sure)  # of the two that are tested


def test_claims_share_the_level():
    arms = {"digits": ARMS}
    alone = decide({1: Claim("", "digits", (A_OVER_B,))}, arms)[0].verdict.p
    both = {number: Claim("", "digits", (A_OVER_B,)) for number in (1, 2)}
    assert decide(both, arms)[0].verdict.p == pytest.approx(2 * alone)
    # Their number is fixed before the runs: a claim that no run says anything of counts,
    both[2] = Claim("", "digits", (PARTS["absent"],))
    assert decide(both, arms)[0].verdict.p == pytest.approx(2 * alone)
    # and one about other data does not.
    both[2] = Claim("", "cifar10", (A_OVER_B,))
    judged = decide(both, arms)
    assert judged[0].verdict.p == pytest.approx(alone)
    assert judged[1].verdict.word == "not tested"


def test_false_claims_are_supported_in_one_of_twenty_studies_at_most():
    """Eight claims of two parts; in each, one part is false and the other is surely true."""
    rng = np.random.default_rng(0)
    claims = {
        number: Claim("", "digits", (Statement("accuracy", f"a{number}", "b"), A_OVER_B))
        for number in range(8)
    }
    wrong = 0
    for _ in range(600):
        base = rng.normal(0.8, 0.01, 5)
        same = {f"a{number}": rng.normal(0.8, 0.01, 5) for number in range(8)}
        arms = arms_of(a=base + 0.2 + rng.normal(0, 1e-3, 5), b=base, **same)
        judged = decide(claims, {"digits": arms})
        wrong += any(each.parts[0].word != "undecided" for each in judged)
    assert wrong / 600 < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 600)


@pytest.mark.parametrize(
    ("collapsed", "count", "expected"),
    [(3, 3, "undecided"), (5, 5, "supported"), (4, 5, "undecided"), (0, 5, "contradicted")],
)
def test_that_runs_collapse_is_tested_as_a_share(collapsed, count, expected):
    """The t test of equal accuracies against a number had p = 0 with two runs."""
    seen = outcomes(learned=range(collapsed, count), collapsed=range(collapsed))
    judged = decided([Collapses("vgg")], {"vgg": ArmValues({}, seen, {})})
    assert judged.verdict.word == expected
    tail = "greater" if collapsed / count > 0.5 else "less"
    p = stats.binomtest(collapsed, count, 0.5, alternative=tail).pvalue
    assert judged.verdict.p == pytest.approx(p)


def test_a_claim_at_its_edge_is_supported_in_one_of_twenty_studies_at_most():
    """A network that collapses in half of its runs; the t test said "supported" in 80% of them."""
    rng = np.random.default_rng(1)
    for seeds in (3, 5, 10):
        supported = 0
        for _ in range(1000):
            hits = int(rng.binomial(seeds, 0.5))
            seen = outcomes(learned=range(hits, seeds), collapsed=range(hits))
            judged = decided([Collapses("vgg")], {"vgg": ArmValues({}, seen, {})})
            supported += judged.verdict.word == "supported"
        assert supported / 1000 < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 1000)


def test_runs_that_diverged_did_not_learn_and_those_that_failed_say_nothing():
    seen = outcomes(collapsed=(0, 1, 2), diverged=(3, 4), failed=(5, 6), missing=(7,))
    judged = decided([Collapses("vgg")], {"vgg": ArmValues({}, seen, {})})
    assert judged.judgements[0].share == (5, 5)
    (text,) = part_texts(judged)
    assert "5 of 5 did, so at least 55% do" in text
    assert "vgg: 3 collapsed, 2 diverged, 2 failed, 1 missing" in text
    # Five runs that a full disk ended.
    alone = {"vgg": ArmValues({}, outcomes(failed=range(5)), {})}
    assert decided([Collapses("vgg")], alone).verdict.word == "not tested"


@pytest.mark.parametrize("share", [0, 1, 1.5])
def test_that_all_runs_collapse_is_no_claim(share):
    with pytest.raises(UsageError, match="above 0 and below 1"):
        Collapses("vgg", share)


def test_a_curve_that_falls_at_its_end_is_not_called_fast():
    """By epochs to 95% of its own last accuracy, a slower arm whose last epoch fell was faster."""
    fast = np.array([0.6, 0.7, 0.75, 0.78, 0.80, 0.81, 0.82, 0.82, 0.82, 0.82])
    slow = np.array([0.5, 0.6, 0.68, 0.72, 0.76, 0.78, 0.80, 0.81, 0.82, 0.70])

    def epochs_to_95(curve):
        return int(np.argmax(curve >= 0.95 * curve[-1]))

    assert epochs_to_95(slow) < epochs_to_95(fast)
    assert slow.mean() < fast.mean()
    assert "mean_accuracy" in {each.quantity for each in CLAIMS[3].statements}


def test_instability_is_no_matter_of_chance():
    """The largest fall of a curve that wobbles by 0.7 points is above a point more often than not;
    the spread between late epochs finds the 0.7 points, and no trend."""
    rng = np.random.default_rng(2)
    curves = 0.85 + rng.normal(0, 0.007, (400, 10))
    falls = np.max(-np.diff(curves, axis=1), axis=1)
    assert np.mean(falls > 0.01) > 0.5
    spreads = [spread_between_epochs(curve) for curve in curves]
    assert np.sqrt(np.mean(np.square(spreads))) == pytest.approx(0.007, rel=0.05)
    assert spread_between_epochs(np.linspace(0.5, 0.6, 11)) == pytest.approx(0, abs=1e-12)
    assert spread_between_epochs(np.array([0.5, 0.6])) is None


def test_an_arm_that_still_rises_is_not_unstable():
    """By successive differences, the slower one was in all of such studies."""
    rng, epochs, found = np.random.default_rng(5), np.arange(1, 11), 0
    for _ in range(300):
        curves = [
            0.85 - 0.3 * np.exp(-epochs / rate) + rng.normal(0, 0.003, (5, 10)) for rate in (4, 2)
        ]
        slow, fast = ([spread_between_epochs(curve) for curve in arm] for arm in curves)
        found += t_test(np.subtract(slow, fast)) < 0.05
    assert found / 300 < 0.1


def test_a_best_epoch_that_its_own_images_chose_is_not_tested(tmp_path):
    from flaxlab.compare.comparison import compare
    from flaxlab.compare.runs import find_runs
    from tests.helpers.finished_runs import write_run

    names = ("alexnet_default", "alexnet_conv_dropout")
    for protocol, expected in (("test", "not tested"), ("holdout", "contradicted")):
        for number, name in enumerate(names):
            for seed in range(3):
                folder = tmp_path / protocol / name / f"{seed}"
                # The arm is better where its epoch is chosen, and worse on the test split.
                finals = [0.6, 0.80 + 0.1 * number + 0.001 * seed, 0.7]
                test = {"test_accuracy": 0.8 - 0.05 * number + 0.001 * seed}
                extra = test if protocol == "holdout" else {}
                write_run(folder, name, seed, finals, extra=extra, data__validation=protocol)
        runs, _ = find_runs([tmp_path / protocol])
        (judged,) = compare(runs, None, "", claims={3: CLAIMS[3]}).claims
        assert judged.parts[1].word == expected


def test_claims_survive_json():
    assert claims_from_json(claims_to_json(CLAIMS)) == CLAIMS
