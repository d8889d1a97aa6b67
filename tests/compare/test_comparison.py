"""What finished runs say together, and what is refused."""

from dataclasses import fields

import pytest

from experiments.claims import CLAIMS
from flaxlab.claims import QUANTITIES, Claim, Statement
from flaxlab.compare.__main__ import main
from flaxlab.compare.comparison import compare
from flaxlab.compare.run_scores import RunScores
from flaxlab.compare.runs import find_runs
from flaxlab.compare.suite_file import SuiteRecord, write_suite_file
from flaxlab.config.read import load_experiment
from flaxlab.errors import UsageError
from tests.helpers.finished_runs import (
    CLASSES,
    COMPARISON_FILES,
    TEST_EXAMPLES,
    read_csv,
    write_run,
)
from tests.helpers.runs import EXPERIMENTS

FALLS = Claim("It falls.", "fashion_mnist", (Statement("accuracy", 0.83, "alexnet_no_dropout"),))


def test_all_outputs_are_written_and_say_the_same(suite, capsys):
    main([str(suite)])
    assert {path.name for path in suite.iterdir() if path.is_file()} == COMPARISON_FILES
    rows = read_csv(suite)
    assert list(rows) == ["alexnet_default", "alexnet_no_dropout", "alexnet_pool"]
    worse = rows["alexnet_no_dropout"]
    # Differences -5.0, -4.9, -5.1 points: s = 0.1, but 300 images tell no less than 0.136 apart:
    # t = -63.6, p = 2.47e-4, twice for two comparisons.
    assert float(worse["difference"]) == pytest.approx(-0.05)
    assert float(worse["p"]) == pytest.approx(2 * 2.47e-4, rel=0.01)
    assert worse["sign_flip_p"] == ""  # it cannot be significant with three seeds
    assert worse["verdict"] == "worse by 5.0 points at n = 3"
    same = rows["alexnet_pool"]
    assert float(same["difference"]) == pytest.approx((-0.002 + 0.006 - 0.003) / 3)
    assert same["verdict"].startswith("undecided at n = 3: -1.")
    assert rows["alexnet_default"]["verdict"] == "the baseline"
    assert float(same["keras_gap"]) == pytest.approx(0.9 - (0.848 + 0.866 + 0.852) / 3)
    assert same["gap"] == ""  # these runs do not say it
    page = (suite / "comparison.html").read_text()
    markdown = (suite / "comparison.md").read_text()
    printed = capsys.readouterr().out
    for text in ("worse by 5.0 points at n = 3", same["verdict"], "alexnet_pool"):
        assert text in page
        assert text in markdown
        assert text in printed
    assert "--config.seed=2" in markdown
    assert "model.head_dropout" in markdown
    assert "http" not in page.replace("http-equiv", "")


def suite_record(**fields):
    """The record of a suite with the arms of the fixture `suite`."""
    record = {
        "name": "dropout",
        "baseline": "alexnet_default",
        "arms": dict.fromkeys(("alexnet_default", "alexnet_no_dropout", "alexnet_pool")),
        "seeds": (0, 1, 2),
        "vary": (),
        "experiment": None,
        "claims": CLAIMS,
        "collapsed_margin": 0.05,
        "equivalent_within": 0.0,
        "looks": (),
        "factors": {},
        "command": "python -m flaxlab.suite --config=mine.py",
    }
    return SuiteRecord(**(record | fields))


def test_the_reports_table_and_its_claims(suite):
    write_suite_file(suite_record(), suite)
    main([str(suite)])
    rows = read_csv(suite)
    # 0.8596 and 0.8475 in the lab report.
    assert rows["alexnet_default"]["reported_inside"] == "True"
    assert rows["alexnet_no_dropout"]["reported_inside"] == "False"
    comparison = compare(find_runs([suite])[0], None, "", claims=CLAIMS)
    verdicts = {judged.number: judged.verdict.word for judged in comparison.claims}
    # No dropout: the accuracy falls; what the gap does, these runs do not say.
    assert verdicts[2] == "undecided"
    parts = next(judged.parts for judged in comparison.claims if judged.number == 2)
    assert [part.word for part in parts] == ["supported", "not tested"]
    # The best AlexNet: better than one, not told apart from another, the others are not there.
    assert verdicts[5] == "undecided"
    assert verdicts[1] == verdicts[6] == verdicts[8] == "not tested"
    assert "| 2 | Without dropout" in (suite / "comparison.md").read_text()


def test_claims_are_those_that_the_suite_wrote_before_its_runs(suite, capsys):
    write_suite_file(suite_record(claims={7: FALLS}), suite)
    main([str(suite)])
    assert "claim 7, supported (p" in capsys.readouterr().out
    markdown = (suite / "comparison.md").read_text()
    assert "| 7 | It falls. | supported (p" in markdown
    assert CLAIMS[2].text not in markdown


def test_without_a_suite_no_claim_is_judged_and_the_page_says_so(suite):
    main([str(suite)])
    said = "No claims are judged: no suite.json in these folders says what they are."
    for suffix in ("md", "html"):
        text = (suite / f"comparison.{suffix}").read_text()
        assert said in text
        assert "Claims</h2>" not in text
        assert "## Claims" not in text


def test_one_number_for_two_claims_is_not_judged(suite):
    write_suite_file(suite_record(claims={2: FALLS, 9: FALLS}), suite / "alexnet_default")
    write_suite_file(suite_record(claims={2: CLAIMS[2], 5: CLAIMS[5]}), suite / "alexnet_pool")
    main([*(str(suite / name) for name in suite_record().arms), f"--to={suite}"])
    markdown = (suite / "comparison.md").read_text()
    assert "Claim 2 is not judged: the suites mean different claims by this number." in markdown
    assert "| 2 |" not in markdown
    assert "| 5 |" in markdown
    assert "| 9 | It falls. | supported" in markdown


def test_claims_and_report_are_about_their_data(tmp_path):
    for seed in range(2):
        folder = tmp_path / f"{seed}"
        write_run(folder, "alexnet_default", seed, [0.9], title="Digits", data__name="digits")
    comparison = compare(find_runs([tmp_path])[0], None, "", claims=CLAIMS)
    assert {judged.verdict.word for judged in comparison.claims} == {"not tested"}
    assert comparison.arms[0].reported is None
    assert comparison.departures["data.name"] == ("fashion_mnist", ["digits"])
    assert comparison.departures["train.epochs"] == (10, [1])


def test_what_the_arms_differ_in_is_no_departure(tmp_path):
    for name, values in {"batch": {}, "none": {"model__norm": "none"}}.items():
        write_run(tmp_path / name, "digits_small", 0, [0.8, 0.9], **values)
    main([str(tmp_path), "--baseline=digits_small model.norm=batch"])
    page = (tmp_path / "comparison.md").read_text()
    assert "Not the protocol of the experiment files: train.epochs: 2 instead of 5." in page
    assert "| digits_small model.norm=none | model.norm | batch | none |" in page
    assert "lab report" not in page


def test_another_value_than_an_arms_own_is_a_departure(tmp_path):
    write_run(tmp_path / "default", "alexnet_default", 0, [0.9] * 10)
    write_run(tmp_path / "l2", "alexnet_l2", 0, [0.9] * 10, loss__l2=0.02)
    comparison = compare(find_runs([tmp_path])[0], None, "")
    assert comparison.departures == {"loss.l2": (0.01, [0.02])}


def test_copies_in_another_format_are_not_what_was_reported(tmp_path):
    write_run(tmp_path / "0", "alexnet_default", 0, [0.9], title="Fashion-MNIST (JPEG)")
    assert compare(find_runs([tmp_path])[0], None, "").arms[0].reported is None


def test_every_arm_and_quantity_of_a_claim_exists():
    known = {field.name for field in fields(RunScores)}
    assert set(QUANTITIES) <= known
    assert list(CLAIMS) == list(range(1, 9))
    for claim in CLAIMS.values():
        for arm in claim.arms:
            assert load_experiment(EXPERIMENTS / f"{arm}.py").data.name == claim.data


def test_one_seed_has_no_interval_and_says_so(tmp_path):
    write_run(tmp_path / "a", "alexnet_default", 0, [0.85])
    write_run(tmp_path / "b", "alexnet_pool", 0, [0.95])
    main([str(tmp_path)])
    assert read_csv(tmp_path)["alexnet_pool"]["verdict"] == (
        "undecided: +10.0 points, one seed: no interval and no test"
    )
    assert "One seed only" in (tmp_path / "comparison.md").read_text()
    assert "One seed only" in (tmp_path / "comparison.html").read_text()


def test_equal_seeds_have_no_interval_and_say_so(tmp_path):
    finals = {"alexnet_default": (0.7, 0.7, 0.7), "alexnet_no_dropout": (0.8, 0.81, 0.8)}
    for name, values in finals.items():
        for seed, value in enumerate(values):
            write_run(tmp_path / name / f"{seed}", name, seed, [value])
    main([str(tmp_path)])
    words = "all seeds equal: no interval"
    equal = read_csv(tmp_path)["alexnet_default"]
    assert (equal["accuracy_low"], equal["prediction_low"]) == ("", "")
    assert equal["accuracy_no_interval"] == words
    assert read_csv(tmp_path)["alexnet_no_dropout"]["accuracy_no_interval"] == ""
    for suffix, shown in (("md", f"70.00 ({words})"), ("html", f"70.00<small>{words}</small>")):
        text = (tmp_path / f"comparison.{suffix}").read_text()
        assert shown in text
        assert "[70.00, 70.00]" not in text
    arm = compare(find_runs([tmp_path])[0], "alexnet_default", "").arms[0]
    assert arm.reported.inside is None


def test_intervals_end_at_what_is_possible(tmp_path):
    for name, values in {"alexnet_default": (0.99, 0.6), "alexnet_pool": (0.51, 0.99)}.items():
        for seed, value in enumerate(values):
            folder = tmp_path / name / f"{seed}"
            write_run(folder, name, seed, [value], extra={"fitted_accuracy": 1.0})
    main([str(tmp_path)])
    rows = read_csv(tmp_path)
    for key in ("accuracy", "final_accuracy", "best_accuracy", "prediction"):
        assert float(rows["alexnet_default"][f"{key}_high"]) == 1
        assert float(rows["alexnet_pool"][f"{key}_low"]) == 0
    # Differences of shares.
    gap = compare(find_runs([tmp_path])[0], "alexnet_pool", "").arms[0].means["gap"]
    assert (gap.mean, gap.low, gap.high) == (pytest.approx(0.25), -1, 1)
    pool = rows["alexnet_pool"]
    assert (float(pool["difference_low"]), float(pool["difference_high"])) == (-1, 1)
    assert "100.00]" in (tmp_path / "comparison.md").read_text()


def test_seeds_are_paired_by_number_and_not_by_order(tmp_path):
    for seed, value in {0: 0.80, 1: 0.90, 2: 0.85}.items():
        write_run(tmp_path / f"a{seed}", "alexnet_default", seed, [value])
    for seed, value in {1: 0.91, 2: 0.86, 7: 0.60}.items():
        write_run(tmp_path / f"b{9 - seed}", "alexnet_pool", seed, [value])
    arm = compare(find_runs([tmp_path])[0], None, "").arms[1]
    assert arm.difference.estimate.count == 2
    assert arm.difference.estimate.mean == pytest.approx(0.01)
    assert arm.means["accuracy"].count == 3


def test_the_holdout_protocol_compares_test_accuracies(tmp_path):
    for number, name in enumerate(("alexnet_default", "alexnet_pool")):
        for seed in range(2):
            write_run(
                tmp_path / name / f"{seed}",
                name,
                seed,
                [0.8],
                extra={"test_accuracy": 0.7 + 0.1 * number + 0.01 * seed * number},
                data__validation="holdout",
            )
    main([str(tmp_path)])
    assert float(read_csv(tmp_path)["alexnet_pool"]["difference"]) == pytest.approx(0.105)
    assert "a holdout of the training split chose" in (tmp_path / "comparison.md").read_text()


def test_arms_of_one_experiment_are_told_apart_by_what_differs(tmp_path):
    for rate in (0.001, 0.01):
        for seed in range(2):
            folder = tmp_path / f"{rate}_{seed}"
            value = 0.8 + rate + 0.01 * seed
            write_run(folder, "alexnet_pool", seed, [value], optimizer__learning_rate=rate)
    arguments = [str(tmp_path), "--vary=optimizer.learning_rate"]
    with pytest.raises(UsageError, match="which arm is the baseline"):
        main(arguments)
    name = "alexnet_pool optimizer.learning_rate=0.001"
    main([*arguments, f"--baseline={name}"])
    assert list(read_csv(tmp_path)) == [name, "alexnet_pool optimizer.learning_rate=0.01"]


def test_a_suites_folder_names_baseline_order_and_what_was_swept(suite):
    arms = ("alexnet_pool", "alexnet_no_dropout", "alexnet_default")
    record = suite_record(baseline="alexnet_pool", arms=dict.fromkeys(arms), seeds=(0, 1, 2, 3))
    write_suite_file(record, suite)
    main([str(suite)])
    assert tuple(read_csv(suite)) == arms
    assert record.command in (suite / "comparison.html").read_text()
    # Seed 3 is planned, and of no arm.
    assert "| alexnet_default | 3 of 4 (1 missing) |" in (suite / "comparison.md").read_text()
    assert read_csv(suite)["alexnet_default"]["missing"] == "1"
    for damaged in ("{", "[]", "{}", "3"):
        (suite / "suite.json").write_text(damaged)
        with pytest.raises(UsageError, match=r"suite\.json cannot be read"):
            main([str(suite)])


def test_the_confusion_matrix_is_the_mean_of_the_seeds(suite):
    arm = compare(find_runs([suite])[0], None, "").arms[0]
    matrices = [run.confusion() for run in arm.runs.values()]
    assert matrices[0].shape == (len(CLASSES), len(CLASSES))
    assert arm.confusion() == pytest.approx(sum(matrices) / 3)
    assert matrices[0].sum() == TEST_EXAMPLES


def test_a_reduced_protocol_is_said_everywhere(tmp_path, capsys):
    for name in ("alexnet_default", "alexnet_pool"):
        for seed in range(2):
            folder = tmp_path / name / f"{seed}"
            write_run(folder, name, seed, [0.8, 0.9], data__train_examples=6000)
    main([str(tmp_path)])
    said = "data.train_examples: 6000 instead of None"
    assert said in capsys.readouterr().out
    for suffix in ("md", "csv", "html"):
        assert said in (tmp_path / f"comparison.{suffix}").read_text()
    markdown = (tmp_path / "comparison.md").read_text()
    assert markdown.count("says nothing of the report's correctness") == 1


def test_one_of_a_thing_is_not_many(tmp_path):
    for name, step in {"alexnet_default": -0.2, "alexnet_pool": 0.2}.items():
        for seed in range(2):
            write_run(tmp_path / name / f"{seed}", name, seed, [0.75 + step * (2 * seed - 1)])
    write_run(tmp_path / "c", "alexnet_l2", 0, [0.5]).joinpath("summary.json").unlink()
    main([str(tmp_path)])
    markdown = (tmp_path / "comparison.md").read_text()
    assert ", 1 epoch, batch" in markdown
    assert "corrected for 1 comparison (Bonferroni)" in markdown
    assert "is not finished (1 epoch) and left out" in markdown
    # Differences of -40 and 40 points.
    assert "| more than 100 |" in markdown
