"""Damaged checkpoints: flips are found, truncations lead to the one before, nothing is lost."""

import random
import shutil

import jax
import numpy as np
import pytest

from flaxlab import config as configs
from flaxlab.checkpoints.manifest import find_damage
from flaxlab.checkpoints.save import Checkpoints
from flaxlab.errors import RunFailed
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble
from tests.helpers.comparing import assert_same_bits, without_times
from tests.helpers.damage import flip_a_bit
from tests.helpers.runs import run_small, small_config, small_dataset, stop_at


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run of three epochs: its directory and its result."""
    workdir = tmp_path_factory.mktemp("saved")
    return workdir, run_small(workdir)


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "copy")


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


# Orbax's own notes, which nothing that is restored depends on.
AFTER_THE_MANIFEST = ("commit_success.txt", "_CHECKPOINT_METADATA")


def restores(workdir):
    experiment = assemble(small_config(), small_dataset())
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        newest = checkpoints.newest()
        state = newest.restore(experiment.create_state())
    return len(newest.record["history"]) == 3 and int(state.step) == 9


def resume_point(workdir):
    """Returns the number of epochs of the newest intact checkpoint."""
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        newest = checkpoints.newest()
    return newest and len(newest.record["history"])


def test_every_flipped_byte_in_a_sample_is_found(copy, request, capsys):
    dice = random.Random(request.config.getoption("faults_seed"))
    folder = copy / "checkpoints/latest/9"
    tried = 0
    for path in files_of(folder):
        original = path.read_bytes()
        count = min(len(original), 3 * request.config.getoption("cases"))
        for place in dice.sample(range(len(original)), count):
            flipped = bytearray(original)
            flipped[place] ^= dice.randint(1, 255)
            path.write_bytes(flipped)
            if path.name in AFTER_THE_MANIFEST and not find_damage(folder):
                assert restores(copy), (path, place)
            else:
                assert find_damage(folder), (path, place)
            tried += 1
        path.write_bytes(original)
    assert find_damage(folder) == []
    with capsys.disabled():
        print(f"\nflipped bytes: {tried} in {len(files_of(folder))} files")


@pytest.mark.parametrize(
    "kept", [lambda content: 0, lambda content: len(content) // 2, lambda content: -1]
)
def test_every_truncated_file_leads_to_the_checkpoint_before(saved, tmp_path, kept, capsys):
    folder = saved[0] / "checkpoints/latest/9"
    names = [
        path.relative_to(folder)
        for path in files_of(folder)
        if path.stat().st_size and path.name != "commit_success.txt"  # read by nobody
    ]
    for number, name in enumerate(names):
        copy = shutil.copytree(saved[0], tmp_path / str(number))
        path = copy / "checkpoints/latest/9" / name
        content = path.read_bytes()
        path.write_bytes(content[: kept(content)])
        assert resume_point(copy) == 2, name
        aside = copy / "checkpoints/damaged/latest-9"
        assert (aside / name).read_bytes() == content[: kept(content)]
        shutil.rmtree(copy)
    with capsys.disabled():
        print(f"\ntruncated files: {len(names)}")


def test_a_run_goes_on_from_the_checkpoint_before_with_the_same_bits(copy, saved, caplog):
    flip_a_bit(copy / "checkpoints/latest/9")
    result = run_small(copy)
    assert_same_bits(result.state, saved[1].state)
    assert without_times(result.history) == without_times(saved[1].history)
    warnings = [record for record in caplog.records if "is damaged" in record.message]
    assert len(warnings) == 1
    assert "latest/9 is damaged (state/" in warnings[0].message
    assert warnings[0].message.endswith("checkpoints/damaged/latest-9")
    # Damaged once more: what was set aside before is not overwritten.
    flip_a_bit(copy / "checkpoints/latest/9")
    run_small(copy)
    names = {path.name for path in (copy / "checkpoints/damaged").iterdir()}
    assert names == {"latest-9", "latest-9-2"}


def test_where_all_are_damaged_the_run_starts_again_and_says_so(copy, saved, caplog):
    for step in ("6", "9"):
        flip_a_bit(copy / "checkpoints/latest" / step)
    result = run_small(copy)
    assert_same_bits(result.state, saved[1].state)
    assert "no intact checkpoint is left; the run starts from its beginning" in caplog.text
    assert len(list((copy / "checkpoints/damaged").iterdir())) == 2


def test_a_damaged_midway_checkpoint_leads_to_the_end_of_the_epoch_before(tmp_path, saved):
    experiment = assemble(small_config(**{"checkpoint.every_steps": 1}), small_dataset())
    with pytest.raises(KeyboardInterrupt):
        # Three steps of the first epoch, its end with two batches scored, two steps of the second.
        train(experiment, tmp_path, stop=stop_at(3 + 2 + 1 + 2))
    (midway,) = (tmp_path / "checkpoints/midway").iterdir()
    assert midway.name == "5"
    flip_a_bit(midway)
    assert resume_point(tmp_path) == 1
    assert_same_bits(run_small(tmp_path).state, saved[1].state)
    assert (tmp_path / "checkpoints/damaged/midway-5").is_dir()


def test_a_best_epoch_that_is_damaged_fails_a_holdout_in_one_line(tmp_path):
    holdout = {"data.validation": "holdout", "optimizer.learning_rate": 1e-12}
    run_small(tmp_path, **holdout, **{"model.batch_norm_momentum": 0.0})
    for step in (tmp_path / "checkpoints/best").iterdir():
        flip_a_bit(step)
    with pytest.raises(RunFailed, match="parameters of the best epoch"):
        run_small(tmp_path, **holdout, **{"model.batch_norm_momentum": 0.0})
    assert any(
        path.name.startswith("best-") for path in (tmp_path / "checkpoints/damaged").iterdir()
    )


def test_what_is_restored_is_what_was_saved(saved):
    with Checkpoints(saved[0] / "checkpoints") as checkpoints:
        experiment = assemble(small_config(), small_dataset())
        newest = checkpoints.newest()
        state = newest.restore(experiment.create_state())
    assert_same_bits(state, saved[1].state)
    assert configs.differences(configs.from_dict(newest.record["config"]), small_config()) == {}
    assert jax.tree.structure(state) == jax.tree.structure(saved[1].state)
    assert np.asarray(state.step) == 9
