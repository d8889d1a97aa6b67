"""Arms from lists of differences: which they are, what they change, and what is refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaxlab.compare.comparison import compare
from flaxlab.compare.factors import contrast_sign, contrasts
from flaxlab.compare.outcomes import Design
from flaxlab.compare.rules import Rules
from flaxlab.compare.runs import find_runs
from flaxlab.compare.tables import effect_name
from flaxlab.errors import UsageError
from flaxlab.suite.__main__ import main
from flaxlab.suite.definition import Suite
from flaxlab.suite.designs import Variant, add_one_in, factorial, leave_one_out
from flaxlab.suite.plan import plan_suite, suite_record
from tests.helpers.finished_runs import write_run
from tests.helpers.runs import SMALL_RUN

CHANGES = {"model.norm": ("batch", "none"), "model.head_dropout": ((0.5, 0.5), ())}
IMPORTS = "from flaxlab.suite.definition import Suite\nfrom flaxlab.suite.designs import *\n"


def suite_file(tmp_path, text):
    path = tmp_path / "suite.py"
    path.write_text(f"{IMPORTS}\nfrom flaxlab.suite.designs import Variant\n\n{text}")
    return path


def test_a_factorial_has_an_arm_for_each_combination():
    design = factorial(CHANGES)
    assert {arm.name: dict(arm.changes) for arm in design.arms} == {
        "norm=none": {"model.norm": "none"},
        "head_dropout=()": {"model.head_dropout": ()},
        "norm=none head_dropout=()": {"model.norm": "none", "model.head_dropout": ()},
    }
    assert design.factors == {
        "norm=none": ("norm=none", "norm=none head_dropout=()"),
        "head_dropout=()": ("head_dropout=()", "norm=none head_dropout=()"),
    }
    Suite(name="x", baseline="b", arms=design.arms, factors=design.factors)


@given(st.integers(2, 4), st.integers(0, 2))
def test_a_factorial_and_its_fractions_are_balanced(free, followers):
    paths = [f"model.{letter}" for letter in "abcdef"[: free + followers]]
    changes = {path: (0, 1) for path in paths}
    choices = [each for size in (free, 2) for each in itertools.combinations(paths[:free], size)]
    generators = dict(zip(paths[free:], choices, strict=False))
    if len(generators) < followers or len({*generators.values()}) < followers:
        return
    design = factorial(changes, generators)
    assert len(design.arms) == 2**free - 1
    suite = Suite(name="x", baseline="b", arms=design.arms, factors=design.factors)
    arms = ("b", *(arm.name for arm in suite.arms))
    signs = np.array(
        [[1 if arm in made else -1 for arm in arms] for made in design.factors.values()]
    )
    np.testing.assert_array_equal(signs @ signs.T, len(arms) * np.eye(len(signs)))
    assert len(contrasts(Design(arms, (0,), factors=design.factors))) == len(arms) - 1


def least_squares(runs, factors, groups):
    """Effects by a regression on the products of the changes' signs, with a level for each seed."""
    rows = []
    for run in runs:
        signs = {name: 1 if run.config.name in made else -1 for name, made in factors.items()}
        products = [np.prod([signs[name] for name in group]) for group in groups]
        rows.append([*products, *np.eye(3)[run.config.seed]])
    values = [run.scores.accuracy for run in runs]
    coefficients = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    # From -1 to 1 are two units; an interaction is the difference of two such differences.
    return [x * 2 ** len(group) for x, group in zip(coefficients, groups, strict=False)]


def test_the_effects_of_a_fraction_are_those_of_least_squares_and_name_their_aliases(tmp_path):
    changes = {f"model.{name}": (0, 1) for name in "abcd"}
    design = factorial(changes, {"model.d": ("model.a", "model.b", "model.c")})
    arms = ("alexnet_default", *(arm.name for arm in design.arms))
    accuracies = 0.7 + np.random.default_rng(1).normal(0, 0.02, (8, 3))
    for number, (name, row) in enumerate(zip(arms, accuracies, strict=True)):
        for seed, value in enumerate(row):
            folder = tmp_path / f"arm_{number}" / f"seed_{seed}"
            arm = {"name": name, "loss.l2": number / 100}
            write_run(folder, "alexnet_default", seed, [value], **arm)
    runs = find_runs([tmp_path])[0]
    rules = Design(arms, (0, 1, 2), factors=design.factors)
    found = compare(runs, arms[0], "", design=rules).effects
    groups = [effect.factors for effect in found]
    assert len(found) == 7
    assert (groups[0], found[0].aliases) == (("a=1",), ((0.25, ("b=1", "c=1", "d=1")),))
    assert (groups[4], found[4].aliases) == (("a=1", "b=1"), ((1.0, ("c=1", "d=1")),))
    assert effect_name(found[0]) == "a=1 + higher interactions"
    assert effect_name(found[4]) == "a=1 × b=1 + (c=1 × d=1)"
    expected = least_squares(runs, design.factors, groups)
    assert [effect.estimate.mean for effect in found] == pytest.approx(expected)


@given(st.lists(st.integers(2, 4), min_size=1, max_size=2, unique=True))
def test_a_fraction_estimates_the_weighted_sum_of_effects_that_it_names(sizes):
    """Whatever the outcomes of all combinations are: by hand, from the whole factorial."""
    letters = "abcd"
    paths = [f"model.{letter}" for letter in letters]
    names = [f"{letter}=1" for letter in letters]
    followers = {f"model.{'ef'[i]}": tuple(paths[:size]) for i, size in enumerate(sizes)}
    names += [f"{'ef'[i]}=1" for i in range(len(sizes))]
    design = factorial(dict.fromkeys([*paths, *followers], (0, 1)), followers)
    arms = ("baseline", *(arm.name for arm in design.arms))
    rng = np.random.default_rng(len(sizes))
    whole = {
        combination: rng.normal() for combination in itertools.product((-1, 1), repeat=len(names))
    }

    def effect(group):
        """The effect of a group of changes, over all combinations."""
        places = [names.index(name) for name in group]
        contrast = sum(np.prod([c[i] for i in places]) * y for c, y in whole.items())
        return contrast * 2 ** len(group) / len(whole)

    rules = Design(arms, (0,), factors=design.factors)
    for group, aliases in contrasts(rules).items():
        signs = {arm: contrast_sign(arm, group, design.factors) for arm in arms}
        made = {
            arm: tuple(1 if arm in design.factors[name] else -1 for name in names) for arm in arms
        }
        contrast = sum(signs[arm] * whole[made[arm]] for arm in arms)
        estimate = contrast * 2 ** len(group) / len(arms)
        named = effect(group) + sum(weight * effect(alias) for weight, alias in aliases)
        # What is left is the effect of groups whose sign is the same in all arms: none is named.
        assert estimate == pytest.approx(named)


def test_one_list_of_differences_makes_arms_with_one_and_without_one():
    differences = {
        "batch normalization": {"model.norm": ("none", "batch")},
        "dropout": {"model.block_dropout": ((), (0.1,)), "model.head_dropout": ((), (0.5,))},
    }
    within, without = add_one_in(to=differences), leave_one_out(of=differences)
    assert [arm.name for arm in within] == ["with batch normalization", "with dropout"]
    assert within[1].changes == {"model.block_dropout": (0.1,), "model.head_dropout": (0.5,)}
    assert within[1].from_ == {"model.block_dropout": (), "model.head_dropout": ()}
    assert [arm.name for arm in without] == ["without batch normalization", "without dropout"]
    assert without[0].changes == {"model.norm": "none"}
    assert without[0].from_ == {"model.norm": "batch"}


def test_the_arms_of_a_design_are_planned_and_recorded(tmp_path):
    path = suite_file(
        tmp_path,
        "def get_suite():\n"
        f"    arms, factors = factorial({CHANGES!r})\n"
        "    more = (*sweep('loss.l2', (0.001, 0.01)), 'alexnet_conv_dropout')\n"
        "    return Suite(name='mine', baseline='alexnet_default', arms=(*arms, *more))\n",
    )
    plan = plan_suite(path, 2, ["--config.train.epochs=3"])
    assert [arm.name for arm in plan.arms] == [
        "alexnet_default",
        "head_dropout=()",
        "norm=none",
        "norm=none head_dropout=()",
        "l2=0.001",
        "l2=0.01",
        "alexnet_conv_dropout",
    ]
    assert {arm.config.train.epochs for arm in plan.arms} == {3}
    assert [arm.config.name for arm in plan.arms] == [arm.name for arm in plan.arms]
    both = {"model.norm": ("batch", "none"), "model.head_dropout": ((0.5, 0.5), ())}
    assert plan.differences(plan.arms[3]) == both
    record = suite_record(plan, "command")
    assert record.vary == ("model.head_dropout", "model.norm", "loss.l2")
    reported = [arm for arm, said in record.arms.items() if said is not None]
    assert reported == ["alexnet_default", "alexnet_conv_dropout"]


def test_a_variant_may_change_what_a_suite_fixes_for_others(tmp_path):
    path = suite_file(
        tmp_path,
        "def get_suite():\n"
        "    arms = sweep('optimizer.learning_rate', (1e-2, 1e-4))\n"
        "    return Suite(name='rates', baseline='alexnet_pool', arms=arms)\n",
    )
    plan = plan_suite(path, 2, [])
    assert plan.vary == ("optimizer.learning_rate",)
    assert [arm.config.optimizer.learning_rate for arm in plan.arms] == [1e-3, 1e-2, 1e-4]


def test_a_variant_can_be_the_baseline(tmp_path):
    path = suite_file(
        tmp_path,
        "def get_suite():\n"
        "    base = Variant('bare', {'model.norm': 'none', 'model.head_dropout': ()},"
        " of='alexnet_default')\n"
        "    differences = {'dropout': {'model.head_dropout': ((), (0.5, 0.5))}}\n"
        "    return Suite(name='mine', baseline=base, arms=add_one_in(to=differences))\n",
    )
    plan = plan_suite(path, 2, [])
    assert [arm.name for arm in plan.arms] == ["bare", "with dropout"]
    assert plan.differences(plan.arms[1]) == {"model.head_dropout": ((), (0.5, 0.5))}
    assert plan.arms[1].config.model.norm == "none"


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ("factorial({'model.norm': ('none', 'batch'), 'loss.l2': (0.0, 0.1)}).arms", "starts from"),
        ("leave_one_out(of={'bn': {'model.norm': ('batch', 'none')}})", "starts from"),
        ("add_one_in({'s': {'model.shortcut': ('none', 'pad')}})", "no --config.model.shortcut"),
        ("sweep('model.norm', ('batch', 'none'))", "does not differ from the baseline"),
        ("sweep('model.nrom', ('batch',))", "did you mean --config.model.norm"),
        ("(Variant('twin', {'model.norm': 'none'}), Variant('twin', {'loss.l2': 1.0}))", "once"),
    ],
)
def test_a_wrong_design_is_one_line(tmp_path, arms, message):
    text = "def get_suite():\n    return Suite(name='x', baseline='alexnet_default', arms={})\n"
    path = suite_file(tmp_path, text.format(arms))
    with pytest.raises(UsageError, match=message):
        plan_suite(path, 2, [])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: factorial({"a": (0, 1)}), "two or more changes"),
        (lambda: factorial({"a": (0, 1), "b": (0, 1, 2)}), "a tuple of two values"),
        (lambda: factorial({"a": (0, 1), "b": (1, 1)}), "a tuple of two values"),
        (lambda: factorial(dict.fromkeys("abc", (0, 1)), {"d": ("a", "b")}), "the generators are"),
        (lambda: factorial(dict.fromkeys("abc", (0, 1)), {"c": ("a",)}), "the generators are"),
        (lambda: add_one_in({"nothing": {}}), "expected the fields that it changes"),
        (lambda: leave_one_out({"bn": {"model.norm": "none"}}), "a tuple of two values"),
        (lambda: Suite("x", Variant("b", {}), ("y",)), "does not say which experiment it varies"),
        (lambda: add_one_in({"bn": ("model.norm", "none")}), "expected the fields"),
        (lambda: Suite("x", "b", ("y",), factors={"a": ("y", "typo")}), "name typo; expected arms"),
        (
            lambda: Suite("x", "b", ("y", "z"), factors={"a": ("y", "z"), "c": ("y", "z")}),
            "a regular fraction",
        ),
    ],
)
def test_a_wrong_list_of_differences_is_one_line(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_a_factorial_runs_from_a_file_of_a_few_lines(tmp_path):
    changes = {**CHANGES, "loss.l2": (0.0, 0.01)}
    path = suite_file(
        tmp_path,
        "def get_suite():\n"
        f"    arms, factors = factorial({changes!r})\n"
        "    return Suite(name='cube', baseline='alexnet_pool', arms=arms, factors=factors)\n",
    )
    small = [*SMALL_RUN, "--config.train.epochs=1", "--config.optimizer.learning_rate=0.01"]
    main([f"--config={path}", f"--workdir={tmp_path / 'cube'}", "--seeds=3", *small])
    page = (tmp_path / "cube/comparison.md").read_text()
    runs = find_runs([tmp_path / "cube"])[0]
    assert len(runs) == 24
    lost = {
        run.config.seed for run in runs if Rules().is_collapse(run.scores.accuracy, run.guessing)
    }
    runs = [run for run in runs if run.config.seed not in lost]  # the blocks that are whole
    assert len(runs) >= 16  # one seed may have an arm that learns nothing
    factors = factorial(changes).factors
    (departures,) = [line for line in page.splitlines() if "Not the protocol" in line]
    assert "model.norm:" not in departures  # it is what the suite is about
    groups = [each for n in (1, 2, 3) for each in itertools.combinations(factors, n)]
    table = page.split("Effects and interactions")[1].split("\n#")[0]
    for group, effect in zip(groups, least_squares(runs, factors, groups), strict=True):
        (line,) = [x for x in table.splitlines() if x.startswith(f"| {' × '.join(group)} |")]
        assert float(line.split("|")[2].split("[")[0]) == pytest.approx(100 * effect, abs=0.006)
