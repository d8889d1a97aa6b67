"""Runs that collapsed, failed, stopped or are missing stand beside every verdict."""

import numpy as np
import pytest

from flaxlab.compare.__main__ import main
from flaxlab.compare.comparison import compare
from flaxlab.compare.outcomes import Design
from flaxlab.compare.runs import find_runs
from tests.helpers.finished_runs import (
    ARM,
    BASELINE,
    fail,
    read_csv,
    write_arm,
    write_suite,
)


def test_two_failed_runs_of_five_qualify_the_verdict_everywhere(tmp_path, capsys):
    write_suite(tmp_path)
    write_arm(tmp_path, BASELINE, [0.800, 0.805, 0.802, 0.803, 0.801])
    write_arm(tmp_path, ARM, [0.825, 0.831, 0.827])
    for seed in (3, 4):
        fail(tmp_path, ARM, seed)
    main([str(tmp_path)])
    row = read_csv(tmp_path)[ARM]
    said = "of the runs that learned: better by 2.5 points at n = 3; 3 of 5 runs learned (2 failed)"
    assert row["verdict"] == said
    assert (row["count"], row["planned"], row["failed"]) == ("3", "5", "2")
    for suffix in ("md", "html"):
        text = (tmp_path / f"comparison.{suffix}").read_text()
        assert said in text
        assert "What became of the runs" in text
        # Errors say nothing of the network: of the three others, all learn.
        assert "0 of 3 [0%, 71%]" in text
    assert said in capsys.readouterr().out


def test_a_run_that_diverged_did_not_learn(tmp_path):
    write_suite(tmp_path)
    write_arm(tmp_path, BASELINE, [0.800, 0.805, 0.802, 0.803, 0.801])
    write_arm(tmp_path, ARM, [0.825, 0.831, 0.827])
    for seed in (3, 4):
        fail(tmp_path, ARM, seed, "flaxlab.errors.Diverged: the loss was NaN in step 7")
    main([str(tmp_path)])
    assert read_csv(tmp_path)[ARM]["verdict"].endswith("3 of 5 runs learned (2 diverged)")
    # Clopper and Pearson's interval.
    assert "2 of 5 [5%, 85%]" in (tmp_path / "comparison.md").read_text()


def test_a_claim_says_whose_runs_it_is_about(tmp_path):
    from experiments.claims import CLAIMS

    write_suite(tmp_path, claims={5: CLAIMS[5]})
    write_arm(tmp_path, BASELINE, [0.800, 0.805, 0.802, 0.803, 0.801])
    write_arm(tmp_path, ARM, [0.825, 0.831, 0.827])
    fail(tmp_path, ARM, 3)
    main([str(tmp_path)])
    markdown = (tmp_path / "comparison.md").read_text()
    assert "n = 3 (alexnet_pool: 1 failed, 1 missing)" in markdown
    said = "| undecided, of the runs that learned (alexnet_pool: 1 failed, 1 missing) |"
    assert said in markdown


def test_collapsed_runs_are_counted_and_not_averaged(tmp_path):
    """Five arms' worth of evidence was lost to one collapse: the mean fell by 14 points."""
    write_suite(tmp_path)
    write_arm(tmp_path, BASELINE, [0.800, 0.805, 0.100, 0.803, 0.801])
    write_arm(tmp_path, ARM, [0.820, 0.826, 0.823, 0.822, 0.823])
    main([str(tmp_path)])
    rows = read_csv(tmp_path)
    assert rows[BASELINE]["collapsed"] == "1"
    assert float(rows[BASELINE]["accuracy"]) == pytest.approx(np.mean([0.8, 0.805, 0.803, 0.801]))
    assert rows[BASELINE]["verdict"] == "the baseline, 4 of 5 runs learned (1 collapsed)"
    said = rows[ARM]["verdict"]
    assert said.startswith("of the runs that learned: better by 2.0 points at n = 4")
    assert said.endswith("baseline: 4 of 5 runs learned (1 collapsed)")


def test_an_arm_that_collapses_in_all_runs_is_no_arm_without_runs(tmp_path):
    write_suite(tmp_path, seeds=3)
    write_arm(tmp_path, BASELINE, [0.8, 0.81, 0.82])
    write_arm(tmp_path, ARM, [0.33, 0.33, 0.33])
    main([str(tmp_path)])
    row = read_csv(tmp_path)[ARM]
    assert row["verdict"] == (
        "no seed in which both it and the baseline learned; 0 of 3 runs learned (3 collapsed)"
    )
    assert (row["count"], row["collapsed"], row["difference"]) == ("0", "3", "")
    assert "3 of 3 [29%, 100%]" in (tmp_path / "comparison.md").read_text()


def test_an_arm_without_any_finished_run_stands_in_the_table(tmp_path):
    write_suite(tmp_path, seeds=2)
    write_arm(tmp_path, BASELINE, [0.8, 0.81])
    fail(tmp_path, ARM, 0)
    main([str(tmp_path)])
    markdown = (tmp_path / "comparison.md").read_text()
    assert "no run is finished (1 failed, 1 missing)" in markdown


def test_what_counts_as_a_collapse_is_the_suites_rule(tmp_path):
    write_arm(tmp_path, BASELINE, [0.45, 0.8])
    runs, _ = find_runs([tmp_path])
    # Guessing among three classes is right in a third of the cases, which leaves two thirds.
    for margin, collapsed in ((0.05, ()), (0.2, (0,)), (0.75, (0, 1))):
        design = Design((BASELINE,), (0, 1), collapsed_margin=margin)
        assert compare(runs, None, "", design=design).arms[0].outcomes.collapsed == collapsed


def test_without_a_suite_the_page_says_what_cannot_be_known(tmp_path):
    write_arm(tmp_path, BASELINE, [0.8, 0.81])
    write_arm(tmp_path, ARM, [0.8, 0.82])
    main([str(tmp_path)])
    said = "No single suite says how many runs were planned"
    for suffix in ("md", "html"):
        assert said in (tmp_path / f"comparison.{suffix}").read_text()
    assert "of the runs that learned" not in read_csv(tmp_path)[ARM]["verdict"]


def test_seeds_beyond_the_plan_are_told(tmp_path):
    write_suite(tmp_path, seeds=2)
    write_arm(tmp_path, BASELINE, [0.8, 0.81, 0.805])
    write_arm(tmp_path, ARM, [0.8, 0.82, 0.83])
    main([str(tmp_path)])
    assert "The suite did not plan seed 2." in (tmp_path / "comparison.md").read_text()


def test_looks_before_seeds_were_added_are_told(tmp_path):
    write_suite(tmp_path, seeds=2, looks=(3, 5))
    write_arm(tmp_path, BASELINE, [0.8, 0.81])
    main([str(tmp_path)])
    said = "Seeds were added after the arms had been compared with 3, 5."
    assert said in (tmp_path / "comparison.md").read_text()
