"""suite.json: claims and rules that changed after the first run are shown as such."""

import dataclasses

import pytest

from flaxlab.claims import Claim, Statement
from flaxlab.compare.__main__ import main
from flaxlab.compare.command import read_comparison
from flaxlab.compare.suite_file import read_suite_file, write_suite_file
from tests.helpers.finished_runs import ARM, BASELINE, write_run, write_suite

CLAIM = Claim("It rises.", "fashion_mnist", (Statement("accuracy", ARM, BASELINE),))


@pytest.fixture
def suite(tmp_path):
    """A suite with a claim, whose runs were started under it."""
    write_suite(tmp_path, seeds=2, claims={1: CLAIM})
    digest = read_suite_file(tmp_path).digest
    for name in (BASELINE, ARM):
        for seed in range(2):
            folder = tmp_path / name / f"seed_{seed}"
            write_run(folder, name, seed, [0.8], extra={"suite": digest})
    return tmp_path


def compared(folder):
    main([str(folder)])
    return (folder / "comparison.md").read_text()


def test_what_was_fixed_before_the_runs_needs_no_remark(suite):
    page = compared(suite)
    assert "It rises." in page
    assert "other claims or rules" not in page


@pytest.mark.parametrize(
    "change",
    [
        {"claims": {1: dataclasses.replace(CLAIM, text="It rises a little.")}},
        {"claims": {}},
        {"equivalent_within": 0.01},
    ],
)
def test_a_suite_file_that_was_edited_after_the_runs_is_told(suite, change):
    write_suite_file(dataclasses.replace(read_suite_file(suite), **change), suite)
    page = compared(suite)
    assert "other claims or rules than those under which 4 of 4 runs were started" in page


def test_seeds_and_arms_may_be_added(suite):
    record = read_suite_file(suite)
    more = {"seeds": (0, 1, 2), "arms": {**record.arms, "alexnet_l2": None}}
    write_suite_file(dataclasses.replace(record, **more), suite)
    assert "other claims or rules" not in compared(suite)


def test_a_claim_that_the_suites_file_says_otherwise_now_is_told(suite):
    record = dataclasses.replace(read_suite_file(suite), changed=("claim 1",))
    write_suite_file(record, suite)
    assert "has changed in: claim 1. The first version counts." in compared(suite)


def test_two_suites_with_one_arm_do_not_accuse_each_other(suite, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write_suite(other, seeds=2)
    digest = read_suite_file(other).digest
    for seed in range(2):
        folder = other / BASELINE / f"seed_{seed + 2}"
        write_run(folder, BASELINE, seed + 2, [0.8], extra={"suite": digest})
    comparison = read_comparison([suite, other])
    assert not any("other claims or rules" in note for note in comparison.notes)
