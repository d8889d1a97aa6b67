"""A ledger keeps runs whose numbers can be trusted, small and without places."""

import dataclasses
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flaxlab.compare.runs import find_runs
from flaxlab.compare.suite_file import read_suite_file, write_suite_file
from flaxlab.data.digits import load_digits
from flaxlab.errors import UsageError
from flaxlab.ledger.__main__ import main as ledger
from flaxlab.ledger.keep import LARGEST, keep_runs
from flaxlab.main import main
from flaxlab.run.resume_rules import is_finished
from flaxlab.scores import from_logits, read_predictions
from flaxlab.suite.plan import plan_suite, suite_record
from flaxlab.training.experiment import assemble
from tests.helpers.runs import ROOT

sys.path.insert(0, str(ROOT / "docs"))

from update_results import (
    EXPERIMENTS,
    README,
    RESULTS,
    arms,
    claims,
    experiments_of,
    experiments_text,
    readme_text,
    results_text,
)

TINY = """
from experiments import digits_small


def get_config():
    config = digits_small.get_config()
    config.model.blocks = (((2, 3),), ((4, 3),))
    config.model.head_units = (8,)
    config.train.devices = 1
    config.train.epochs = 2
    config.log.tensorboard = False
    config.log.progress = "none"
    return config
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.py").write_text(TINY)
    run = folder / "runs/tiny/seed_3"
    main([f"--config={folder / 'tiny.py'}", "--config.seed=3", f"--workdir={run}"])
    change_json(run / "summary.json", "versions", {"git": "0123456789ab", "flaxlab": "1"})
    change_json(run / "summary.json", "experiment_git", "ba9876543210")
    return folder


@pytest.fixture
def run(made, tmp_path):
    return Path(shutil.copytree(made / "runs", tmp_path / "runs")) / "tiny/seed_3"


def change_json(path, key, value):
    stored = json.loads(path.read_text())
    stored[key] = value
    path.write_text(json.dumps(stored))


def keep(made, run, to=None):
    return list(keep_runs(run.parents[1], to, [made]))


def test_what_is_kept_is_small_names_no_place_and_compares_as_before(made, run, tmp_path):
    to = tmp_path / "ledger"
    ledger([str(run.parents[1]), f"--to={to}", f"--experiments={made}"])
    kept = to / "tiny/seed_3"
    assert {path.name for path in kept.iterdir()} == {
        "config.json",
        "summary.json",
        "history.csv",
        "predictions.npz",
    }
    assert sum(path.stat().st_size for path in kept.iterdir()) <= LARGEST
    for path in kept.iterdir():
        assert str(made).encode() not in path.read_bytes()
        assert str(tmp_path).encode() not in path.read_bytes()
    (before,), (after,) = find_runs([run])[0], find_runs([kept])[0]
    # The small form has no probabilities.
    assert after.scores == replace(before.scores, brier=None, calibration_error=None)
    np.testing.assert_array_equal(after.confusion(), before.confusion())
    assert keep(made, to / "tiny/seed_3")  # checks what it has kept


def test_a_suite_takes_a_kept_run_for_finished(made, run, tmp_path):
    keep(made, run, tmp_path / "ledger")
    kept = tmp_path / "ledger/tiny/seed_3"
    (found,) = find_runs([kept])[0]
    experiment = assemble(found.config, load_digits((8, 8, 1)))
    assert is_finished(kept, experiment)


def test_runs_are_kept_in_place_as_well(made, run):
    size = (run / "predictions.npz").stat().st_size
    keep(made, run, run.parents[1])
    assert (run / "predictions.npz").stat().st_size < size
    assert (run / "checkpoints").is_dir()
    assert json.loads((run / "summary.json").read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("versions", {"git": "0123456789ab + changes"}, "flaxlab was at 0123456789ab \\+ changes"),
        ("versions", {"flaxlab": "1"}, "flaxlab had no revision"),
        ("experiment_git", "1 + changes", "its experiment file was at 1 \\+ changes"),
        ("final_val_accuracy", 0.9999, "its summary says final_val_accuracy 0.9999"),
        ("final_val_loss", 7.0, "its summary says loss 7.0"),
        ("epochs", 3, "its summary says epochs 3"),
    ],
)
def test_a_run_that_cannot_be_trusted_is_refused(made, run, tmp_path, key, value, said):
    change_json(run / "summary.json", key, value)
    with pytest.raises(UsageError, match=said):
        keep(made, run, tmp_path / "ledger")
    assert not (tmp_path / "ledger").exists()


def test_a_run_whose_predictions_were_changed_is_refused(made, run):
    with np.load(run / "predictions.npz") as stored:
        logits, labels = stored["logits"], stored["labels"]
    logits[0, labels[0]] -= 100
    np.savez(run / "predictions.npz", logits=logits, labels=labels)
    with pytest.raises(UsageError, match="its summary says"):
        keep(made, run)


def test_a_run_with_losses_beyond_float16_is_kept(made, run, tmp_path):
    with np.load(run / "predictions.npz") as stored:
        logits, labels = stored["logits"], stored["labels"]
    wrong = int(np.argmax(logits.argmax(axis=1) != labels))  # as wrong as before, but very sure
    logits[wrong, logits[wrong].argmax()] = 1e6
    np.savez(run / "predictions.npz", logits=logits, labels=labels)
    loss = float(from_logits(logits, labels).losses.mean())
    change_json(run / "summary.json", "final_val_loss", loss)
    keep(made, run, tmp_path / "ledger")
    kept = tmp_path / "ledger/tiny/seed_3"
    assert keep(made, kept)  # checks what it has kept
    change_json(kept / "summary.json", "final_val_loss", 1.0)  # less than the losses that are there
    with pytest.raises(UsageError, match="says loss 1"):
        keep(made, kept)


def test_a_run_of_another_config_than_its_file_s_is_refused(made, run):
    config = json.loads((run / "config.json").read_text())
    config["optimizer"]["learning_rate"] = 0.5
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"not that of tiny.py \(optimizer.learning_rate"):
        keep(made, run)


def test_predictions_follow_from_logits():
    """By hand: two classes, logits 0 and ln 3, so probabilities 1/4 and 3/4."""
    logits = np.array([[0, np.log(3)], [0, np.log(3)]], np.float32)
    found = from_logits(logits, np.array([1, 0], np.int32))
    np.testing.assert_array_equal(found.predicted, [1, 1])
    np.testing.assert_allclose(found.losses, [np.log(4 / 3), np.log(4)], rtol=1e-6)


def test_damaged_predictions_are_one_line(tmp_path):
    (tmp_path / "predictions.npz").write_bytes(b"PK")
    with pytest.raises(UsageError, match="cannot be read"):
        read_predictions(tmp_path)


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """The ledger as git has it: a suite may be adding runs to the folder."""
    listed = subprocess.run(
        ["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    folder = tmp_path_factory.mktemp("committed")
    for name in listed:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder / "results"


def test_the_committed_tables_are_those_of_the_committed_runs(committed):
    found, readme = arms(committed), README.read_text()
    experiments = experiments_of(readme)
    assert len(experiments) == 13
    assert readme_text(readme, found) == readme
    assert experiments_text(EXPERIMENTS.read_text()) == EXPERIMENTS.read_text()
    page = RESULTS.read_text()
    assert results_text(page, found, experiments, claims(committed)) == page


def test_the_committed_runs_belong_in_a_ledger(committed):
    if list(committed.rglob("summary.json")):
        list(keep_runs(committed, None))


def test_a_kept_run_is_not_trained_away(made, run, tmp_path):
    keep(made, run, tmp_path / "ledger")
    kept = tmp_path / "ledger/tiny/seed_3"
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    with pytest.raises(UsageError, match="is finished and has no checkpoints to start from"):
        main([f"--config={made / 'tiny.py'}", "--config.seed=3", f"--workdir={kept}"])
    assert {
        path.name: path.read_bytes() for path in kept.iterdir() if path.name in before
    } == before


def test_a_run_that_is_not_stripped_does_not_pass_the_check(made, run):
    with pytest.raises(UsageError, match="has not been stripped yet"):
        keep(made, run)


PAIR = """
from flaxlab.claims import Claim, Statement
from flaxlab.suite.definition import Suite


def get_suite():
    claims = {4: Claim("It learns.", "digits", (Statement("accuracy", "tiny", 0.2),))}
    return Suite("pair", "digits_small", ("tiny",), fixed=("data",), claims=claims)
"""


@pytest.fixture
def pair(made):
    """The file of a suite of which the run is an arm."""
    path = made / "pair.py"
    path.write_text(PAIR)
    return path


def test_the_record_of_a_suite_is_kept_without_its_places(made, run, pair, tmp_path):
    command = f"python -m flaxlab.suite --config=a.py --workdir={tmp_path} --seeds=2"
    record = suite_record(plan_suite(pair, 2, []), command)
    write_suite_file(record, run.parents[1])
    keep(made, run, tmp_path / "ledger")
    kept = read_suite_file(tmp_path / "ledger")
    command = "python -m flaxlab.suite --config=a.py --seeds=2"
    assert kept == dataclasses.replace(record, command=command)


def test_runs_of_single_commands_are_kept_with_the_claims_of_their_suite(made, run, pair, tmp_path):
    to = tmp_path / "ledger"
    arguments = [str(run.parents[1]), f"--to={to}", f"--experiments={made}", f"--suite={pair}"]
    ledger(arguments)
    kept = read_suite_file(to)
    assert (kept.name, list(kept.arms)) == ("pair", ["digits_small", "tiny"])
    assert kept.seeds == ()  # nobody wrote down how many were planned
    assert {number: claim.text for number, claim in kept.claims.items()} == {4: "It learns."}
    assert kept.command == "python -m flaxlab.suite --config=experiments/suites/pair.py"
    assert claims(tmp_path) == kept.claims
    ledger(arguments)
    before = (to / "suite.json").read_bytes()
    pair.write_text(PAIR.replace("0.2", "0.3"))
    with pytest.raises(UsageError, match=r"suite\.json has other claims than .*pair\.py"):
        ledger(arguments)
    assert (to / "suite.json").read_bytes() == before
    with pytest.raises(UsageError, match="tiny is not among its arms"):
        ledger([*arguments, f"--suite={ROOT / 'experiments/suites/alexnet_fashion.py'}"])
