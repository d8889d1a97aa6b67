"""Reading checkpoints: what is found, what is read, what damage is noticed."""

import errno
import json
import os
import threading
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore

import flaxlab
from flaxlab import config as configs
from flaxlab.batches.augment import scale_pixels
from flaxlab.checkpoints.find import choose, find_saved
from flaxlab.checkpoints.folder import StepManager
from flaxlab.checkpoints.manifest import find_damage, write_manifest
from flaxlab.checkpoints.read import list_leaves, read_collection, read_leaves
from flaxlab.checkpoints.save import Checkpoints
from flaxlab.config.rules import complete
from flaxlab.data.load import load_dataset
from flaxlab.run.load import load_stored
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble
from tests.helpers.processes import run_code
from tests.helpers.runs import small_config, small_dataset


def test_a_run_is_found_from_every_folder_of_it(stored_run):
    for path in (stored_run, stored_run / "checkpoints"):
        found = find_saved(path)
        assert [saved.step for saved in found if saved.kind == "latest"] == [20, 30]
        assert choose(found, "latest").step == 30
        assert choose(found, "best").kind == "best"
        assert choose(found, "20").kind == "latest"
        assert found[1].metrics()["epoch"] == 3
    step = stored_run / "checkpoints/latest/20"
    for path in (step, step / "state"):  # the manifest stands with the step
        assert [(saved.folder, saved.step) for saved in find_saved(path)] == [(step, 20)]


def test_foreign_checkpoints_are_found(foreign_checkpoints):
    managed = find_saved(foreign_checkpoints / "managed")
    assert [(saved.step, saved.kind) for saved in managed] == [(5, "managed"), (6, "managed")]
    assert managed[0].metrics() == {"loss": 0.2}
    assert managed[0].record() is None
    assert choose(managed, "latest").step == 6
    (tree,) = find_saved(foreign_checkpoints / "tree")
    assert tree.step is None


def test_leaves_are_what_was_saved(foreign_checkpoints):
    folder = foreign_checkpoints / "tree"
    leaves = {leaf.path: leaf for leaf in list_leaves(folder)}
    assert {path: (leaf.shape, leaf.dtype) for path, leaf in leaves.items()} == {
        "layers/0": ((3, 4), "float64"),
        "layers/1": ((3,), "float16"),
        "optimizer/0": ((3,), "int64"),
        "optimizer/1/slow": ((2,), "bfloat16"),
        "rate": ((), "float64"),
        "name": (None, "string"),
    }
    assert leaves["layers/0"].nbytes == 96
    arrays = {leaf.path: array for leaf, array in read_leaves(folder, list(leaves.values()))}
    assert arrays.keys() == leaves.keys() - {"name"}
    np.testing.assert_array_equal(arrays["layers/0"], np.ones((3, 4)))
    np.testing.assert_array_equal(arrays["optimizer/0"], [0, 1, 2])
    np.testing.assert_array_equal(arrays["optimizer/1/slow"].astype(float), [-2, -2])
    assert arrays["rate"] == 0.1


def test_one_leaf_is_read_without_the_others(stored_run):
    tree = stored_run / "checkpoints/latest/30/state"
    wanted = [leaf for leaf in list_leaves(tree) if leaf.path == "opt_state/0/mu/output/kernel"]
    ((leaf, array),) = read_leaves(tree, wanted)
    assert leaf.shape == array.shape == (8, 10)


def test_a_stored_model_gives_the_logits_of_its_run(stored_run):
    model, variables, config = flaxlab.load(stored_run)
    with np.load(stored_run / "predictions.npz") as stored:
        expected, labels = stored["logits"], stored["labels"]
    evaluated = configs.from_dict(json.loads((stored_run / "config.json").read_text()))
    assert configs.differences(evaluated, config) == {}
    dataset = load_dataset(config.data)
    np.testing.assert_array_equal(dataset.test.labels, labels)
    images = scale_pixels(dataset.test.images, config.data.scaling)
    logits = model.apply(variables, images, train=False)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_steps_are_chosen_by_name_and_number(stored_run):
    assert load_stored(stored_run).epoch == 3
    assert load_stored(stored_run, "20").epoch == 2
    assert load_stored(stored_run, "best").saved.kind == "best"
    assert flaxlab.load(str(stored_run), step=20)[2].seed == 0
    assert load_stored(stored_run).class_names == tuple(map(str, range(10)))


def test_a_run_with_a_holdout_gives_its_best_epoch(tmp_path):
    config = small_config(**{"data.validation": "holdout", "train.epochs": 2})
    train(assemble(config, small_dataset()), tmp_path)
    assert load_stored(tmp_path).saved.kind == "best"


def test_a_config_of_an_older_version_gets_defaults(stored_run):
    config = configs.from_dict(json.loads((stored_run / "config.json").read_text()))
    completed = complete(config)
    old = configs.to_dict(config)
    del old["train"]["init_from"], old["data"]["placement"]
    assert configs.differences(complete(configs.from_dict(old)), completed) == {}


def test_other_layouts_of_steps_and_trees_are_found(tmp_path):
    options = ocp.CheckpointManagerOptions(step_prefix="step")
    tree = {"model": {"params": {"w": np.ones(2)}, "batch_stats": {"var": np.full(2, -1.0)}}}
    with ocp.CheckpointManager(tmp_path, options=options) as manager:
        for step in (9, 10):
            manager.save(step, args=ocp.args.StandardSave(tree))
    found = find_saved(tmp_path)
    assert [saved.step for saved in found] == [9, 10]
    leaves = list_leaves(found[0].trees["default"])
    assert {leaf.collection for leaf in leaves} == {"params", "batch_stats"}
    np.testing.assert_array_equal(
        read_collection(found[0].trees["default"], "params")["w"], np.ones(2)
    )


def test_parameters_load_whatever_optimizer_saved_them(tmp_path):
    states = {}
    for name in ("adam", "sgd"):
        result = train(
            assemble(small_config(**{"optimizer.name": name, "train.epochs": 1}), small_dataset()),
            tmp_path / name,
        )
        states[name] = result.state
        stored = load_stored(tmp_path / name)
        jax.tree.map(np.testing.assert_array_equal, stored.variables["params"], result.state.params)


SAVE = """
import sys, jax, numpy as np, orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from pathlib import Path
assert jax.device_count() == {devices}
mesh = Mesh(np.array(jax.devices()), ("data",))
w = np.arange(64.0, dtype=np.float32).reshape(16, 4)
spec = PartitionSpec("data" if {devices} > 1 else None)
params = {{"w": jax.device_put(w, NamedSharding(mesh, spec))}}
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(Path(sys.argv[1]), {{"params": params}})
"""
READ = """
import sys, jax, numpy as np
from pathlib import Path
from flaxlab.checkpoints.read import read_collection
assert jax.device_count() == {devices}
found = read_collection(Path(sys.argv[1]), "params")["w"]
np.testing.assert_array_equal(found, np.arange(64.0).reshape(16, 4))
assert isinstance(found, np.ndarray)
"""


@pytest.mark.parametrize(("saving", "reading"), [(8, 1), (1, 8)])
def test_arrays_load_on_another_number_of_devices(tmp_path, saving, reading):
    for program, devices in ((SAVE, saving), (READ, reading)):
        flags = f"--xla_force_host_platform_device_count={devices}"
        program = program.format(devices=devices)
        ended = run_code(program, tmp_path / "saved", environment={"XLA_FLAGS": flags})
        assert ended.code == 0, ended.errors


def test_a_state_is_restored_to_other_devices(tmp_path):
    """From two devices to one, and the other way round."""
    mesh = jax.make_mesh((2,), ("data",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    experiment = assemble(small_config(), small_dataset())
    for number, (saved_on, restored_on) in enumerate(
        ((everywhere, jax.devices()[0]), (jax.devices()[0], everywhere))
    ):
        state = jax.device_put(experiment.create_state(), saved_on)
        with Checkpoints(tmp_path / str(number)) as checkpoints:
            checkpoints.save_latest(state, {})
        like = jax.device_put(experiment.with_seed(1).create_state(), restored_on)
        with Checkpoints(tmp_path / str(number)) as checkpoints:
            restored = checkpoints.newest().restore(like)
        jax.tree.map(np.testing.assert_array_equal, restored.params, state.params)
        leaf = jax.tree.leaves(restored.params)[0]
        assert leaf.sharding == jax.tree.leaves(like.params)[0].sharding


def test_large_arrays_are_saved_in_chunks(tmp_path):
    """Whole, and in shards; each is restored to the other."""
    mesh = jax.make_mesh((2,), ("data",))
    shards = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    drawn = np.random.default_rng(0).standard_normal((10, 1024, 1024)).astype(np.float32)  # 42 MB
    for number, (saved_on, restored_on) in enumerate(
        ((shards, jax.devices()[0]), (jax.devices()[0], shards))
    ):
        directory = tmp_path / str(number)
        state = {"w": jax.device_put(drawn, saved_on), "b": jax.numpy.ones(4)}
        like = jax.device_put(jax.tree.map(jax.numpy.zeros_like, state), restored_on)
        manager = StepManager(directory, 1, {})
        manager.save(1, state, {})
        manager.settle()
        assert find_damage(manager.folder(1)) == []
        restored = manager.restore(1, like)
        manager.close()
        np.testing.assert_array_equal(restored["w"], drawn)
        assert restored["w"].sharding == like["w"].sharding
        files = {"driver": "file", "path": f"{directory / '1/state'}/"}
        store = {"driver": "ocdbt", "base": files, "path": "w/"}
        stored = tensorstore.open({"driver": "zarr", "kvstore": store}).result()
        chunk = stored.chunk_layout.read_chunk.shape
        assert np.prod(chunk) * drawn.itemsize <= 1 << 24 < drawn.nbytes
        np.testing.assert_array_equal(stored.read().result(), drawn)


def test_a_foreign_collection_is_read_alone(foreign_checkpoints):
    tree = foreign_checkpoints / "managed/6/default"
    np.testing.assert_array_equal(read_collection(tree, "params")["w"], np.full((2, 2), 6.0))
    assert read_collection(tree, "batch_stats") == {}


@pytest.mark.parametrize("within", [False, True])
def test_a_state_is_written_beside_the_best_one_but_never_counts_before_it(
    tmp_path, monkeypatch, within
):
    """A run that is killed at any moment has the best epoch of the history it resumes with."""
    best, whole = tmp_path / "best/3", tmp_path / ("midway/3" if within else "latest/3")
    written, seen = threading.Event(), []

    def slowly(folder):
        write_manifest(folder)
        if folder.parent == best.parent:
            assert written.wait(60)  # for a state that would wait for this one
            time.sleep(0.2)  # a state that did not wait at all would be there now
            seen.append(whole.exists())
        else:
            written.set()

    monkeypatch.setattr("flaxlab.checkpoints.folder.write_manifest", slowly)
    state = assemble(small_config(), small_dataset()).create_state().replace(step=3)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save_best(3, state.scored, {})
        (checkpoints.save_midway if within else checkpoints.save_latest)(state, {})
        checkpoints.settle()
        assert checkpoints.failure is None
    assert seen == [False]
    assert best.exists()
    assert whole.exists()


def refuse_to_write(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_no_state_is_saved_without_the_best_one_which_is_tried_again(tmp_path, monkeypatch):
    def write_all_but_the_best(folder):
        (refuse_to_write if folder.parent.name == "best" else write_manifest)(folder)

    state = assemble(small_config(), small_dataset()).create_state()
    with Checkpoints(tmp_path) as checkpoints:
        with monkeypatch.context() as full:
            full.setattr("flaxlab.checkpoints.folder.write_manifest", write_all_but_the_best)
            checkpoints.save_best(3, state.scored, {"epoch": 1})
            checkpoints.save_latest(state.replace(step=3), {})
            checkpoints.settle()
            assert checkpoints.failure == os.strerror(errno.ENOSPC)
            assert checkpoints.newest_step() == 0
        checkpoints.save_latest(state.replace(step=6), {})
        checkpoints.settle()
        assert checkpoints.failure is None
        assert checkpoints.saved_step() == 6
    assert json.loads((tmp_path / "best/3/record/metadata").read_text()) == {"epoch": 1}


def test_a_failure_is_over_once_a_newer_state_is_saved(tmp_path, monkeypatch, caplog):
    state = assemble(small_config(), small_dataset()).create_state()
    with Checkpoints(tmp_path) as checkpoints:
        with monkeypatch.context() as full:
            full.setattr(ocp.CheckpointManager, "save", refuse_to_write)
            checkpoints.save_midway(state.replace(step=4), {})
        assert checkpoints.failure == os.strerror(errno.ENOSPC)
        checkpoints.save_latest(state.replace(step=6), {})
        checkpoints.settle()
        assert checkpoints.failure is None
    assert "checkpoints can be saved again" in caplog.text


def test_the_best_step_of_the_newest_state_stays_while_states_fail(tmp_path, monkeypatch):
    def write_the_best_alone(folder):
        (write_manifest if folder.parent.name == "best" else refuse_to_write)(folder)

    state = assemble(small_config(), small_dataset()).create_state()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save_best(3, state.scored, {})
        checkpoints.save_latest(state.replace(step=3), {})
        checkpoints.settle()
        monkeypatch.setattr("flaxlab.checkpoints.folder.write_manifest", write_the_best_alone)
        for step in (6, 9, 12):
            checkpoints.save_best(step, state.scored, {})
            checkpoints.save_latest(state.replace(step=step), {})
            checkpoints.settle()
        assert checkpoints.newest_step() == 3
        assert {path.name for path in (tmp_path / "best").iterdir()} == {"3", "12"}


def test_a_best_state_that_could_not_be_saved_is_scored_from_memory(tmp_path, monkeypatch):
    state = assemble(small_config(), small_dataset()).create_state()
    monkeypatch.setattr(ocp.CheckpointManager, "save", refuse_to_write)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save_best(3, state.scored, {})
        assert checkpoints.restore_best(state, 3).params is state.params


def test_a_best_state_whose_save_cannot_begin_is_tried_again(tmp_path, monkeypatch):
    state = assemble(small_config(), small_dataset()).create_state()
    with Checkpoints(tmp_path) as checkpoints:
        with monkeypatch.context() as full:
            full.setattr(ocp.CheckpointManager, "save", refuse_to_write)
            checkpoints.save_best(3, state.scored, {})
        checkpoints.save_midway(state.replace(step=4), {})
        checkpoints.settle()
        assert checkpoints.failure is None
        assert checkpoints.newest_step() == 4
    assert (tmp_path / "best/3").is_dir()


def test_a_disk_that_can_be_written_again_is_written_at_the_next_save(tmp_path, monkeypatch):
    """Even if what the failed save left could not be removed until now."""

    def refuse(*_, ignore_errors=False, **__):
        if not ignore_errors:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    manager = StepManager(tmp_path, 1, {})
    with monkeypatch.context() as broken:
        broken.setattr("flaxlab.checkpoints.folder.write_manifest", refuse)
        broken.setattr("shutil.rmtree", refuse)
        manager.save(1, {"w": jax.numpy.ones(4)}, {})
        manager.settle()
        assert manager.failure == os.strerror(errno.EROFS)
        time.sleep(0.3)  # a manager that is opened too early would fail now
    manager.save(2, {"w": jax.numpy.ones(4)}, {})
    manager.settle()
    manager.close()
    assert manager.failure is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2"]
