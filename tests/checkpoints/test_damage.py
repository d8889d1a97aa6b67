"""Damaged, lost and foreign files of checkpoints: all are noticed, none is a traceback."""

import json
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flaxlab
from flaxlab import config as configs
from flaxlab.checkpoints.find import find_saved
from flaxlab.checkpoints.manifest import NAME, find_damage
from flaxlab.checkpoints.read import list_leaves, read_collection
from flaxlab.config.rules import complete
from flaxlab.data.load import load_dataset
from flaxlab.errors import UsageError
from flaxlab.inspect.command import verify
from flaxlab.run.load import load_stored
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble
from tests.helpers.damage import flip_a_bit
from tests.helpers.processes import start


@pytest.fixture
def copy(stored_run, tmp_path):
    """A copy of the run, to be damaged."""
    return shutil.copytree(stored_run, tmp_path / "copy")


def data_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)


def test_every_checkpoint_has_a_manifest_that_holds(stored_run):
    found = find_saved(stored_run)
    assert len(found) >= 3
    for saved in found:
        assert find_damage(saved.folder) == []
        covered = json.loads((saved.folder / NAME).read_text())
        assert any(name.startswith("state/") for name in covered)
        assert "record/metadata" in covered


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 10**6), place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(copy, which, place, bit):
    folder = copy / "checkpoints/latest/30"
    covered = json.loads((folder / NAME).read_text())
    path = folder / sorted(covered)[which % len(covered)]
    original = path.read_bytes()
    if not original:
        return
    damaged = bytearray(original)
    damaged[place % len(damaged)] ^= 1 << bit
    path.write_bytes(damaged)
    try:
        assert find_damage(folder) == [f"{path.relative_to(folder).as_posix()} is changed"]
    finally:
        path.write_bytes(original)


def test_missing_and_foreign_files_are_found(copy):
    folder = copy / "checkpoints/latest/30"
    (folder / "record/metadata").rename(folder / "record/other")
    assert find_damage(folder) == [
        "record/metadata is missing",
        "record/other is not in the manifest",
    ]
    for content in ("{", "[]x", "3", "[3]"):
        (folder / NAME).write_text(content)
        assert find_damage(folder) == [f"{NAME} is damaged itself"]


@pytest.mark.parametrize("lost", ["state/_METADATA", "state", "_CHECKPOINT_METADATA", NAME])
def test_a_step_that_has_lost_files_does_not_vanish(copy, lost):
    folder = copy / "checkpoints/latest/30"
    path = folder / lost
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if lost == NAME:  # as of an older version
        assert load_stored(copy).epoch == 3
        return
    assert [saved.step for saved in find_saved(copy)][:2] == [20, 30]
    for use in (lambda: flaxlab.load(copy), lambda: verify(copy)):
        with pytest.raises(UsageError, match=r"latest/30"):
            use()
    assert flaxlab.load(copy, step=20)


def test_one_item_of_a_step_is_verified_too(copy):
    flip_a_bit(copy / "checkpoints/latest/30")
    with pytest.raises(UsageError, match="is damaged"):
        flaxlab.load(copy / "checkpoints/latest/30/state")


def test_a_damaged_record_is_one_line_and_hides_no_other_step(copy):
    record = copy / "checkpoints/latest/30/record/metadata"
    record.write_text(record.read_text()[:100])
    with pytest.raises(UsageError, match="record/metadata is changed"):
        flaxlab.load(copy)
    assert flaxlab.load(copy, step="best")
    config = complete(configs.from_dict(json.loads((copy / "config.json").read_text())))
    train(assemble(config, load_dataset(config.data)), copy)
    assert (copy / "checkpoints/damaged/latest-30/record/metadata").stat().st_size == 100
    for content in ("{}", '{"config": {}}', "[]"):
        record.write_text(content)
        (copy / "checkpoints/latest/30" / NAME).unlink(missing_ok=True)
        with pytest.raises(UsageError, match="its record is damaged"):
            flaxlab.load(copy)


@pytest.mark.parametrize(
    "tree",
    [
        {"params": np.ones(2)},
        {"a": {"params": {"w": np.ones(2)}}, "b": {"params": {"w": np.ones(2)}}},
        {"params": {"a": np.ones(2), "a/b": np.ones(2)}},
    ],
)
def test_what_is_no_tree_of_named_arrays_is_refused(tmp_path, tree):
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "tree", tree)
    with pytest.raises(UsageError, match="tree"):
        read_collection(tmp_path / "tree", "params")


def test_a_flipped_bit_is_found_on_restore(copy, stored_run):
    flip_a_bit(copy / "checkpoints/latest/30")
    with pytest.raises(UsageError, match=r"latest/30 is damaged: state/.* is changed"):
        flaxlab.load(copy)
    assert flaxlab.load(copy, step=20)


@pytest.mark.parametrize("size", [0, 10, 2000])
def test_truncated_arrays_are_one_line_even_without_a_manifest(copy, size):
    folder = copy / "checkpoints/latest/30"
    (folder / NAME).unlink()
    for path in (folder / "state").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:size])
    # In a process of its own, for what Orbax's threads say after the failure.
    code, _, errors = start("inspect", copy, "--stats").end()
    assert code == 2
    assert errors.startswith("error: ")
    assert "cannot be read" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_damaged_metadata_is_named(copy, content):
    folder = copy / "checkpoints/latest/30"
    (folder / "state/_METADATA").write_text(content)
    with pytest.raises(UsageError, match=r"is damaged: state/_METADATA is changed"):
        flaxlab.load(copy)
    with pytest.raises(UsageError, match=r"the metadata of .* cannot be read"):
        list_leaves(folder / "state")


def test_what_is_no_checkpoint_is_refused(tmp_path, stored_run, foreign_checkpoints):
    with pytest.raises(UsageError, match="there is no folder"):
        flaxlab.load(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="there is no checkpoint in"):
        flaxlab.load(tmp_path)
    with pytest.raises(UsageError, match="was not written by flaxlab"):
        flaxlab.load(foreign_checkpoints / "managed")
    with pytest.raises(UsageError, match=r"there is no step 7 in .*; it has 20, 30"):
        flaxlab.load(stored_run, step=7)
    with pytest.raises(UsageError, match="--step=last is not a step"):
        flaxlab.load(stored_run, step="last")


def test_a_save_that_was_not_completed_is_refused(tmp_path, stored_run):
    unfinished = tmp_path / "checkpoints/latest/30.orbax-checkpoint-tmp-1"
    shutil.copytree(stored_run / "checkpoints/latest/30", unfinished)
    with pytest.raises(UsageError, match="only saves that were not completed"):
        flaxlab.load(tmp_path)
    with pytest.raises(UsageError, match="a save that was not completed"):
        flaxlab.load(unfinished)


def test_another_architecture_is_refused_with_the_difference(copy):
    record = copy / "checkpoints/latest/30/record/metadata"
    content = json.loads(record.read_text())
    content["config"]["model"]["head_units"] = [16, 9]
    record.write_text(json.dumps(content))
    (copy / "checkpoints/latest/30" / NAME).unlink()
    with pytest.raises(UsageError) as error:
        flaxlab.load(copy)
    assert "does not hold the model of its config" in str(error.value)
    assert "params/head2/dense/kernel: (16, 8), expected (16, 9)" in str(error.value)
