"""Small runs: a config, data, and the one list of overrides that makes any experiment small."""

import itertools
import signal
from pathlib import Path

import ml_collections
import numpy as np

from flaxlab.config import default_config
from flaxlab.data.dataset import Dataset, Split
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"
POOL_FILE = EXPERIMENTS / "alexnet_pool.py"

# A small network on scikit-learn's digits, as commands take it: ten steps an epoch.
SMALL_RUN = [
    "--config.data.name=digits",
    "--config.data.image_shape=(8, 8, 1)",
    "--config.data.train_examples=320",
    "--config.data.test_examples=100",
    "--config.train.epochs=3",
    "--config.train.batch_size=32",
    "--config.train.devices=1",
    "--config.model.blocks=(((8, 3),),)",
    "--config.model.pools=((3, 2),)",
    "--config.model.head_units=(16, 8)",
    "--config.model.batch_norm_momentum=0.5",
    "--config.optimizer.learning_rate=0.005",
    "--config.checkpoint.epoch_seconds=0",
    "--config.log.tensorboard=false",
    "--config.log.progress=none",
]
SMALL_POOL = [f"--config={POOL_FILE}", *SMALL_RUN]
# The same for suites of several AlexNets.
SMALL_SUITE = [
    *SMALL_RUN,
    "--config.optimizer.learning_rate=0.001",  # the experiment's own
    "--config.log.progress=lines",
]

# Two arms of two seeds, and the option that has processes of their own do them.
SWEEP = [
    *SMALL_POOL,
    "--config.train.epochs=8",
    "--config.optimizer.learning_rate=0.001",  # the experiment's own, and so the baseline
    "--config.log.progress=lines",
    "--sweep.optimizer.learning_rate=1e-2,1e-3",
    "--seeds=2",
]
PROCESSES = "--launcher=processes"

# Plain SGD in small steps, where rounding is compared: where a gradient is zero but for rounding,
# Adam takes a whole step of it, and batch normalization makes errors grow from step to step.
SGD = {
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.005,
    "optimizer.momentum": 0.0,
    "loss.l2": 0.01,
}

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
    "steps.csv",
    "summary.json",
}


def small_config(**overrides) -> ml_collections.FrozenConfigDict:
    """A network of every kind of layer that trains in milliseconds; dotted keys as overrides."""
    config = default_config("alexnet")
    config.name = config.baseline = "small"
    config.data.name = "digits"
    config.data.image_shape = (8, 8, 1)
    config.model.blocks = (((4, 3),),)
    config.model.padding = "SAME"
    config.model.pools = ((2, 2),)
    config.model.block_dropout = (0.1,)
    config.model.head_units = (16, 8)
    config.train.epochs = 3
    config.train.batch_size = 8
    config.train.devices = 1
    config.log.tensorboard = False
    config.checkpoint.epoch_seconds = 0.0
    config.update_from_flattened_dict(overrides)
    return ml_collections.FrozenConfigDict(config)


def deeper_config(**overrides) -> ml_collections.FrozenConfigDict:
    """The same with a second block, and two convolutions in the first."""
    blocks = {
        "model.blocks": (((4, 3), (4, 3)), ((8, 3),)),
        "model.pools": ((2, 2), (2, 1)),
        "model.block_dropout": (0.1, 0.2),
    }
    return small_config(**(blocks | overrides))


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


def run_small(workdir, reporters=(), dataset=None, **overrides):
    """Trains `small_config` in this process; returns what `train` does."""
    experiment = assemble(small_config(**overrides), dataset or small_dataset())
    return train(experiment, workdir, reporters)


class Listener:
    """A reporter that does nothing; subclasses interrupt the run."""

    def run_started(self, experiment, epochs, steps): ...
    def step_done(self, epoch, step, running): ...
    def steps_written(self, rows): ...
    def epoch_done(self, row): ...
    def weights_due(self, epoch, params): ...
    def run_done(self): ...


def stop_at(count):
    """Returns a `stop` that says so when it is asked for the `count`-th time."""
    calls = itertools.count(1)
    return lambda: signal.SIGTERM if next(calls) == count else None


def write_suite(folder, arms, fixed=""):
    """Writes a suite file of these arms beside alexnet_default, with a claim; returns its path."""
    path = folder / "mine.py"
    path.write_text(
        "from flaxlab.claims import Claim, Statement\n"
        "from flaxlab.suite.definition import Suite\n"
        "A_CLAIM = Claim('', 'fashion_mnist', (Statement('accuracy', 'alexnet_l2', 0.5),))\n"
        f"def get_suite():\n    return Suite('mine', 'alexnet_default', {arms}{fixed})\n"
    )
    return path
