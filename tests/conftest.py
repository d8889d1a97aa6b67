"""Settings of the whole test run: they must stand before JAX and Keras are imported."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
# Eight devices on any machine, for the tests of pmap and sharding; and no optimization of machine
# code, which takes longer than all small networks take to run.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
    ]
)

from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import settings

from flaxlab.config import default_config
from flaxlab.data.dataset import Dataset, Split
from flaxlab.main import main

# Processes that tests start have one device, like a user's.
assert len(jax.devices()) == 8
os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")

# No test is timed: a busy machine would fail it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# What a complete run directory holds, beside the TensorBoard events.
RUN_FILES = {
    "checkpoints",
    "config.json",
    "confusion_matrix.csv",
    "confusion_matrix.png",
    "curves.png",
    "history.csv",
    "mistakes.png",
    "predictions.npz",
    "source",
    "report.html",
    "samples.png",
    "summary.json",
}


@pytest.fixture(scope="session", autouse=True)
def compile_once(tmp_path_factory):
    """Shares compiled programs among the tests of this session."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory, monkeypatch):
    """Keeps the user's caches and data sets out of the tests, and theirs out of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("tfds")))


def small_config(**overrides) -> ml_collections.FrozenConfigDict:
    """A network of every kind of layer that trains in milliseconds; dotted keys as overrides."""
    config = default_config("alexnet")
    config.name = config.baseline = "small"
    config.data.name = "digits"
    config.data.image_shape = (8, 8, 1)
    config.model.blocks = (((4, 3), (4, 3)), ((8, 3),))
    config.model.padding = "SAME"
    config.model.pools = ((2, 2), (2, 1))
    config.model.block_dropout = (0.1, 0.2)
    config.model.head_units = (16, 8)
    config.train.epochs = 3
    config.train.batch_size = 8
    config.train.devices = 1
    config.log.tensorboard = False
    config.update_from_flattened_dict(overrides)
    return ml_collections.FrozenConfigDict(config)


def small_dataset(train: int = 21, test: int = 10, shape=(8, 8, 1), classes: int = 3) -> Dataset:
    """Random images whose brightness tells their class."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        labels = (np.arange(count) % classes).astype(np.int32)
        noise = rng.integers(0, 60, (count, *shape))
        return Split((noise + labels[:, None, None, None] * 60).astype(np.uint8), labels)

    return Dataset(
        name="digits",
        title="Brightness",
        version="1.0.0",
        origin="made up by a test.",
        fingerprint="brightness",
        class_names=tuple(f"class {label}" for label in range(classes)),
        train=split(train),
        test=split(test),
    )


# A small network on scikit-learn's digits, as `flaxlab.main` takes it.
SMALL_RUN = [
    "--config.data.name=digits",
    "--config.data.image_shape=(8, 8, 1)",
    "--config.data.train_examples=320",
    "--config.data.test_examples=100",
    "--config.train.epochs=3",
    "--config.train.batch_size=32",
    "--config.train.devices=1",
    "--config.model.blocks=(((4, 3),), ((8, 3),), ((8, 3),))",
    "--config.model.pools=((2, 2), (2, 1), (2, 1))",
    "--config.model.head_units=(16, 8)",
    "--config.model.batch_norm_momentum=0.5",
    "--config.optimizer.learning_rate=0.005",
    "--config.log.tensorboard=false",
    "--config.log.progress=none",
]
POOL_FILE = Path(__file__).parent.parent / "experiments/alexnet_pool.py"


@pytest.fixture(scope="session")
def stored_run(tmp_path_factory) -> Path:
    """A finished run directory; a test must not change it."""
    folder = tmp_path_factory.mktemp("stored") / "run"
    main([f"--config={POOL_FILE}", f"--workdir={folder}", *SMALL_RUN])
    return folder


@pytest.fixture(scope="session")
def foreign_checkpoints(tmp_path_factory) -> Path:
    """What a project without flaxlab saves: tree/ by a checkpointer, managed/ by a manager."""
    folder = tmp_path_factory.mktemp("foreign")
    tree = {
        "layers": [np.ones((3, 4)), np.array([0, np.nan, 1], np.float16)],
        "optimizer": (np.arange(3), {"slow": jnp.full((2,), -2, jnp.bfloat16)}),
        "rate": 0.1,
        "name": "theirs",
        "nothing": None,
    }
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(folder / "tree", tree)
    # Orbax keeps metrics only where they decide what is kept.
    options = ocp.CheckpointManagerOptions(best_fn=lambda metrics: -metrics["loss"])
    with ocp.CheckpointManager(folder / "managed", options=options) as manager:
        for step in (5, 6):
            args = ocp.args.StandardSave({"params": {"w": np.full((2, 2), float(step))}})
            manager.save(step, args=args, metrics={"loss": 1.0 / step})
    return folder


def pytest_addoption(parser):
    """How thorough the tests in tests/faults are; `make faults` asks for more."""
    parser.addoption("--kills", type=int, default=4, help="processes to kill; default 4")
    parser.addoption("--cases", type=int, default=10, help="random configs and files; default 10")
    parser.addoption("--faults_seed", type=int, default=0, help="of the random moments")
