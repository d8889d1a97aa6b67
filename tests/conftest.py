"""Settings of the whole test run: they must stand before JAX and Keras are imported."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
# Two devices on any machine, for the tests of pmap and sharding; and no optimization of machine
# code, which takes longer than all small networks take to run.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=2",
        "--xla_backend_optimization_level=0",
    ]
)

import jax
import ml_collections
import numpy as np
import pytest

from flaxlab.config import default_config
from flaxlab.data.dataset import Dataset, Split

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
