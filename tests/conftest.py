"""Settings of the whole test run: they must stand before JAX and Keras are imported."""

import contextlib
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
# Also on a machine with a GPU: what the tests say of bits and devices holds on a CPU. Those of
# tests/test_gpu.py are for JAX_PLATFORMS=cuda,cpu.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Eight devices on any machine, for the tests of pmap and sharding; and no optimization of a CPU's
# machine code, which takes longer than all small networks take to run.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0" if os.environ["JAX_PLATFORMS"] == "cpu" else "",
    ]
)

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import settings
from matplotlib.figure import Figure
from PIL import Image

from flaxlab.main import main
from tests.helpers.runs import SMALL_POOL

# Processes that tests start have one device, like a user's.
assert len(jax.devices("cpu")) == 8
os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")

# No test is timed: a busy machine would fail it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def compile_once(tmp_path_factory):
    """Shares compiled programs among the tests of this session, and among their processes.

    Apart: a process that a test kills may leave half a program.
    """
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("compiled_by_processes")
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        yield


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Unloads the programs of a test module.

    Each takes three of the 65,530 memory mappings that Linux allows a process by default; with
    those of all modules XLA would crash.
    """
    yield
    jax.clear_caches()


# Rendering takes half of a small run's time.
render = Figure.savefig


def leave_blank(figure, file, *, format, **options):
    """Writes a picture of one pixel, or of nothing."""
    if format == "svg":
        file.write(b'<svg width="1pt"></svg>')
    elif format == "png":
        Image.new("L", (1, 1)).save(file, format="png")
    else:
        render(figure, file, format=format, **options)


@pytest.fixture(scope="session", autouse=True)
def blank_pictures():
    """Leaves pictures blank, but for tests that ask for `pictures`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", leave_blank)
        yield


@contextlib.contextmanager
def rendered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", render)
        yield


@pytest.fixture(scope="module")
def pictures(blank_pictures):
    """Renders the pictures of a test module."""
    with rendered():
        yield


def use_own_folders(tmp_path_factory, patch):
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("tfds")))


@pytest.fixture(scope="session", autouse=True)
def own_folders_of_fixtures(tmp_path_factory):
    """Keeps the user's caches and data sets out of the tests, and theirs out of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        use_own_folders(tmp_path_factory, patch)
        yield


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory, monkeypatch):
    """Keeps those of a test out of the next."""
    use_own_folders(tmp_path_factory, monkeypatch)


@pytest.fixture(scope="session")
def stored_run(tmp_path_factory) -> Path:
    """A finished run directory; a test must not change it."""
    folder = tmp_path_factory.mktemp("stored") / "run"
    with rendered():
        main([*SMALL_POOL, f"--workdir={folder}"])
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
