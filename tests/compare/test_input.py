"""Which runs a comparison takes, and which it refuses in one line."""

import csv
import json
import shutil

import pytest

from flaxlab.command_line import run_command
from flaxlab.compare.__main__ import main
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


def read_csv(folder):
    with (folder / "comparison.csv").open(newline="") as file:
        return {row["arm"]: row for row in csv.DictReader(file)}


def test_unfinished_runs_are_left_out_by_name(suite):
    (suite / "alexnet_pool/seed_1/summary.json").unlink()
    main([str(suite)])
    markdown = (suite / "comparison.md").read_text()
    assert "alexnet_pool/seed_1 is not finished (3 epochs) and left out" in markdown
    assert read_csv(suite)["alexnet_pool"]["seeds"] == "0 2"


def refused(arguments, capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        run_command(main, [str(argument) for argument in arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_wrong_input_is_one_line(suite, tmp_path, capsys):
    assert "there is no folder" in refused([tmp_path / "nowhere"], capsys)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no run in" in refused([empty], capsys)
    assert "--baseline takes alexnet_default or" in refused([suite, "--baseline=vgg"], capsys)
    unfinished = write_run(tmp_path / "unfinished/run", "alexnet_pool", 0, [0.5])
    (unfinished / "summary.json").unlink()
    assert "none of the 1 runs" in refused([tmp_path / "unfinished"], capsys)


def test_mixed_protocols_are_refused_with_the_difference(suite, tmp_path, capsys):
    write_run(tmp_path / "longer", "alexnet_l2", 0, [0.5, 0.6, 0.7, 0.8])
    error = refused([suite], capsys)
    assert "different protocols (train.epochs: 3 -> 4)" in error
    assert "--vary=train.epochs" in error
    main([str(suite), "--vary=train.epochs"])


def test_other_data_of_the_same_name_is_refused(suite, tmp_path, capsys):
    write_run(tmp_path / "jpeg", "alexnet_l2", 0, [0.5, 0.6, 0.7], title="Fashion-MNIST (JPEG)")
    assert "different data (Fashion-MNIST, Fashion-MNIST (JPEG))" in refused([suite], capsys)


def test_identical_arms_and_runs_are_refused(suite, tmp_path, capsys):
    write_run(tmp_path / "copy", "alexnet_pool", 0, [0.5, 0.6, 0.7], name="another_name")
    assert "have the same config" in refused([suite], capsys)
    config = json.loads((tmp_path / "copy/config.json").read_text())
    (tmp_path / "copy/config.json").write_text(json.dumps(config | {"name": "alexnet_pool"}))
    assert "the same experiment with the same seed, but" in refused([suite], capsys)


@pytest.mark.parametrize("content", ["{", "[]", "{}", ""])
@pytest.mark.parametrize("name", ["config.json", "summary.json", "history.csv", "predictions.npz"])
def test_a_damaged_run_is_named(suite, name, content, capsys):
    (suite / "alexnet_pool/seed_1" / name).write_text(content)
    error = refused([suite], capsys)
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
    assert "there is no field optimiser" in refused([suite, "--vary=optimiser.lr"], capsys)
    assert "accuracies of two kinds" in refused([suite, "--vary=data.validation"], capsys)
