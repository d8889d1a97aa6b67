"""Fingerprints: a run goes on only with the code that made it, and loading warns of other code."""

import json
import subprocess

import flax.linen as nn
import jax
import optax
import pytest

import flaxlab
from flaxlab.errors import UsageError
from flaxlab.models import blocks
from flaxlab.run.fingerprint import fingerprints, same_tracer
from flaxlab.run.record import git_revision, make_record
from flaxlab.run.resume_rules import is_finished
from flaxlab.run.run import train
from flaxlab.training import penalty as losses
from flaxlab.training.experiment import assemble
from tests.helpers.digests import RECORD, digests
from tests.helpers.report_facts import PARAMETERS
from tests.helpers.runs import small_config, small_dataset


def experiment(**overrides):
    return assemble(small_config(**overrides), small_dataset())


def test_the_same_code_has_the_same_fingerprints_in_every_seed_and_length():
    first = fingerprints(experiment())
    assert len(first) == 7
    assert fingerprints(experiment(seed=3, **{"train.epochs": 7})) == first
    assert fingerprints(experiment(**{"train.parallel": "pmap"})) == first
    assert fingerprints(experiment(**{"train.fast_kernels": False})) == first


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_networks_of_the_report_compute_what_they_did(name):
    """With plain `lax`: the same StableHLO gives the same bits, by one XLA on one machine."""
    record = json.loads(RECORD.read_text())
    if not same_tracer(record["versions"]):
        pytest.skip(f"the record is of {record['versions']}; see tests/helpers/digests.py")
    assert digests(name) == record["digests"][name]


RELU = nn.relu


def another_relu(x):  # a comment, and a name of its own
    return RELU(x)


def gelu(x):
    return nn.gelu(x)


@pytest.mark.parametrize(
    ("patch", "parts"),
    [
        ((blocks.ACTIVATIONS, "relu", another_relu), set()),
        ((blocks.ACTIVATIONS, "relu", gelu), {"network in training", "network in evaluation"}),
        ((losses.jnp, "square", lambda w: w**4), {"loss", "training step"}),
        ((optax, "apply_updates", lambda params, updates: params), {"training step"}),
        ((optax, "scale_by_learning_rate", lambda rate: optax.scale(-0.5)), {"optimizer"}),
    ],
)
def test_a_fingerprint_changes_with_what_is_computed_and_with_nothing_else(
    monkeypatch, patch, parts
):
    before = fingerprints(experiment(**{"loss.l2": 0.01}))
    replace = monkeypatch.setitem if isinstance(patch[0], dict) else monkeypatch.setattr
    replace(*patch)
    now = fingerprints(experiment(**{"loss.l2": 0.01}))
    changed = {part for part in before if before[part] != now[part]}
    assert parts <= changed <= parts | {"training step"}


@pytest.fixture
def trained(tmp_path):
    train(experiment(**{"train.epochs": 1}), tmp_path)
    return tmp_path


def test_a_run_refuses_to_go_on_with_another_network(trained, monkeypatch):
    monkeypatch.setitem(blocks.ACTIVATIONS, "relu", gelu)
    before = (trained / "history.csv").read_bytes()
    with pytest.raises(
        UsageError, match="differs in the network in training, the network in evaluation"
    ):
        train(experiment(**{"train.epochs": 2}), trained)
    assert (trained / "history.csv").read_bytes() == before


def test_with_another_version_of_jax_a_difference_is_a_warning(trained, monkeypatch, caplog):
    monkeypatch.setitem(blocks.ACTIVATIONS, "relu", gelu)
    monkeypatch.setattr(
        "flaxlab.run.fingerprint.metadata.version", lambda package: "another version"
    )
    train(experiment(**{"train.epochs": 2}), trained)
    assert "JAX, Flax or Optax has changed version since" in caplog.text


def test_a_loaded_model_says_where_its_code_differs(trained, monkeypatch, caplog):
    flaxlab.load(trained)
    assert "warning" not in caplog.text
    monkeypatch.setitem(blocks.ACTIVATIONS, "relu", gelu)
    flaxlab.load(trained)
    assert (
        "differs in the network in training, the network in evaluation; its accuracy" in caplog.text
    )


def test_a_suite_warns_if_a_finished_run_had_another_network(tmp_path, monkeypatch, caplog):
    made = experiment()
    (tmp_path / "config.json").write_text(made.config.to_json())
    (tmp_path / "history.csv").write_text("epoch\n1\n2\n3\n")
    record = json.loads(json.dumps(make_record(made, [])))
    summary = {key: record[key] for key in ("fingerprints", "versions")}
    summary |= {"dataset_fingerprint": made.dataset.fingerprint, "dataset": made.dataset.title}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert is_finished(tmp_path, made)
    assert "warning" not in caplog.text
    monkeypatch.setitem(blocks.ACTIVATIONS, "relu", gelu)
    assert is_finished(tmp_path, experiment())
    assert "was made by other code" in caplog.text


def test_the_revision_of_a_file_shows_uncommitted_changes(tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    file = tmp_path / "mine.py"
    file.write_text("one = 1\n")
    assert git_revision(file) is None
    git("init")
    git("config", "user.email", "someone@example.org")
    git("config", "user.name", "someone")
    git("commit", "--allow-empty", "--message=empty")
    assert git_revision(file).endswith(" + changes")
    git("add", "mine.py")
    git("commit", "--message=one")
    committed = git_revision(file)
    assert len(committed) == 12
    file.write_text("one = 2\n")
    assert git_revision(file) == f"{committed} + changes"


def test_fingerprints_take_no_device_memory():
    before = len(jax.live_arrays())
    fresh = experiment()
    held = len(jax.live_arrays())
    assert fingerprints(fresh)
    assert len(jax.live_arrays()) == held >= before
