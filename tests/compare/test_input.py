"""Which runs a comparison takes, and which it refuses in one line."""

import json
import shutil

import pytest

from flaxlab.compare.__main__ import main
from flaxlab.scores import PREDICTIONS_FILE, compact_form, read_predictions
from tests.helpers.finished_runs import read_csv, write_run
from tests.helpers.refusals import refused


def test_unfinished_runs_are_left_out_by_name(suite):
    (suite / "alexnet_pool/seed_1/summary.json").unlink()
    main([str(suite)])
    markdown = (suite / "comparison.md").read_text()
    assert "alexnet_pool/seed_1 is not finished (3 epochs) and left out" in markdown
    assert read_csv(suite)["alexnet_pool"]["seeds"] == "0 2"


def test_wrong_input_is_one_line(suite, tmp_path, capsys):
    assert "there is no folder" in refused(main, [tmp_path / "nowhere"], capsys)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no run in" in refused(main, [empty], capsys)
    assert "choose --baseline=alexnet_default or" in refused(
        main, [suite, "--baseline=vgg"], capsys
    )
    unfinished = write_run(tmp_path / "unfinished/run", "alexnet_pool", 0, [0.5])
    (unfinished / "summary.json").unlink()
    assert "none of the 1 runs" in refused(main, [tmp_path / "unfinished"], capsys)


def test_mixed_protocols_are_refused_with_the_difference(suite, tmp_path, capsys):
    write_run(tmp_path / "longer", "alexnet_l2", 0, [0.5, 0.6, 0.7, 0.8])
    error = refused(main, [suite], capsys)
    assert "different protocols (train.epochs: 3 -> 4)" in error
    assert "--vary=train.epochs" in error
    main([str(suite), "--vary=train.epochs"])


def test_other_data_of_the_same_name_is_refused(suite, tmp_path, capsys):
    write_run(tmp_path / "jpeg", "alexnet_l2", 0, [0.5, 0.6, 0.7], title="Fashion-MNIST (JPEG)")
    assert "different data (Fashion-MNIST, Fashion-MNIST (JPEG))" in refused(main, [suite], capsys)


def test_identical_arms_and_runs_are_refused(suite, tmp_path, capsys):
    write_run(tmp_path / "copy", "alexnet_pool", 0, [0.5, 0.6, 0.7], name="another_name")
    assert "have the same config" in refused(main, [suite], capsys)
    config = json.loads((tmp_path / "copy/config.json").read_text())
    (tmp_path / "copy/config.json").write_text(json.dumps(config | {"name": "alexnet_pool"}))
    assert "the same experiment with the same seed, but" in refused(main, [suite], capsys)


@pytest.mark.parametrize("content", ["{", "[]", "{}", ""])
@pytest.mark.parametrize("name", ["config.json", "summary.json", "history.csv", "predictions.npz"])
def test_a_damaged_run_is_named(suite, name, content, capsys):
    (suite / "alexnet_pool/seed_1" / name).write_text(content)
    error = refused(main, [suite], capsys)
    assert "seed_1" in error
    assert "cannot be read" in error


def test_a_run_of_an_older_version_is_read(suite):
    folder = suite / "alexnet_pool/seed_0"
    summary = json.loads((folder / "summary.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    del summary["command"], config["model"]["pool_kind"], config["baseline"]
    # The lab report's numbers stood in the config, and departures nowhere.
    del summary["lab_report"], summary["departures"]
    said = {"data": "fashion_mnist", "final_accuracy": 0.123, "best_accuracy": None}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "config.json").write_text(json.dumps(config | {"reported": said}))
    main([str(suite)])
    markdown = (suite / "comparison.md").read_text()
    assert f"# {folder}" in markdown
    assert "Runs of an older version do not say whether they have the protocol" in markdown
    assert read_csv(suite)["alexnet_pool"]["reported_final"] == "0.123"
    (folder / "config.json").write_text(json.dumps(config | {"reported": said | {"data": ""}}))
    main([str(suite)])
    assert read_csv(suite)["alexnet_pool"]["reported_final"] == ""


def test_the_same_folder_twice_is_the_same_folder(suite):
    arm = suite / "alexnet_pool"
    main([str(arm), str(arm), str(arm / "seed_0"), f"--to={suite / 'out'}"])
    assert list(read_csv(suite / "out")) == ["alexnet_pool"]
    assert "One arm" in (suite / "out/comparison.html").read_text()


def test_an_arm_that_two_suites_share_counts_once(suite, tmp_path):
    shutil.copytree(suite / "alexnet_pool", tmp_path / "other/alexnet_pool")
    main([str(suite)])
    assert read_csv(suite)["alexnet_pool"]["count"] == "3"


def test_a_run_and_its_small_copy_of_a_ledger_count_once(suite, tmp_path):
    """The copy has no probabilities, and so no Brier score."""
    copy = shutil.copytree(suite / "alexnet_pool/seed_0", tmp_path / "ledger/alexnet_pool/seed_0")
    (copy / PREDICTIONS_FILE).write_bytes(compact_form(read_predictions(copy)))
    main([str(suite)])
    assert read_csv(suite)["alexnet_pool"]["count"] == "3"


def test_partly_shared_seeds_are_told(tmp_path):
    for seed in range(4):
        write_run(tmp_path / f"a{seed}", "alexnet_default", seed, [0.8 + seed / 100])
        write_run(tmp_path / f"b{seed}", "alexnet_pool", seed + 2, [0.8 + seed / 90])
    main([str(tmp_path)])
    text = (tmp_path / "comparison.md").read_text()
    assert "alexnet_pool has 2 of 4 seeds in common with alexnet_default" in text
    assert "n = 2" in text


def test_different_classes_are_no_traceback(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"a{seed}", "alexnet_default", seed, [0.8])
        classes = {"classes": {"one": {}, "two": {}}}
        write_run(tmp_path / f"b{seed}", "alexnet_pool", seed, [0.8], "Mine", classes)
    main([str(tmp_path), "--vary=data.folder"])
    assert "different classes" in (tmp_path / "comparison.md").read_text()
    assert not (tmp_path / "comparison_confusion.png").exists()


def test_odd_names_are_shown_as_they_are(tmp_path, capsys):
    for number, name in enumerate(("a [/b] $x_1$ | y", "cost_$5_vs_$6")):
        for seed in range(2):
            folder, rates = tmp_path / f"{number}_{seed}", (0.1 * number, 0.5)
            write_run(folder, "alexnet_pool", seed, [0.8], name=name, model__head_dropout=rates)
    main([str(tmp_path), "--baseline=a [/b] $x_1$ | y"])
    assert "a [/b] $x_1$ | y" in capsys.readouterr().out
    assert "a [/b] $x_1$ \\| y" in (tmp_path / "comparison.md").read_text()


def test_what_may_vary_is_a_field(suite, capsys):
    assert "there is no field optimiser" in refused(main, [suite, "--vary=optimiser.lr"], capsys)
    assert "accuracies of two kinds" in refused(main, [suite, "--vary=data.validation"], capsys)
