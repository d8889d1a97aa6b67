"""On a GPU: JAX_PLATFORMS=cuda,cpu python -m pytest -m gpu"""

import json
import signal

import flax.linen as nn
import jax
import numpy as np
import pytest

import flaxlab
from benchmarks.noise import draw_dataset
from flaxlab import kernels
from flaxlab.batches.devices import one_device
from flaxlab.batches.feed import make_feed
from flaxlab.config.find import experiment_file
from flaxlab.data.shape import resolve_config
from flaxlab.main import main
from flaxlab.training.experiment import assemble
from flaxlab.training.loop import score
from flaxlab.training.programs import compile_evaluation
from tests.helpers.comparing import assert_same_bits
from tests.helpers.processes import start
from tests.helpers.runs import EXPERIMENTS, SMALL_POOL

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        jax.default_backend() != "gpu",
        reason="JAX computes on a CPU here; JAX_PLATFORMS=cuda,cpu lets it use a GPU",
    ),
]

NETWORKS = sorted(path.stem for path in EXPERIMENTS.glob("[arv]*.py"))
DETERMINISTIC = [*SMALL_POOL, "--config.train.deterministic=true"]


def cpu():
    return jax.devices("cpu")[0]


def relative_error(ours, expected):
    trees = (ours, expected)
    ours, expected = (np.concatenate([*map(np.ravel, jax.tree.leaves(tree))]) for tree in trees)
    return np.linalg.norm(ours - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("window", "strides"), [((3, 3), (2, 2)), ((2, 2), (2, 2)), ((3, 3), (1, 1))]
)
def test_max_pooling_is_that_of_linen_on_a_cpu(window, strides, dtype):
    x = np.random.default_rng(0).integers(0, 9, (4, 28, 28, 16)).astype(dtype)

    def value_and_gradient(pool, device):
        values, pull = jax.vjp(lambda x: pool(x, window, strides), jax.device_put(x, device))
        return jax.device_get((values, pull(values)[0]))

    ours = value_and_gradient(kernels.max_pool_on_gpu, jax.devices()[0])
    expected = value_and_gradient(nn.max_pool, cpu())
    np.testing.assert_array_equal(ours[0], expected[0])
    np.testing.assert_array_equal(ours[1], expected[1])  # sums of small whole numbers are exact


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_is_that_of_a_cpu(name):
    options = ["train.batch_size=8", "train.devices=1", "train.matmul_precision=float32"]
    options += ["optimizer.name=sgd", "optimizer.momentum=0.0", "optimizer.learning_rate=1.0"]
    config = resolve_config(experiment_file(name, []), [f"--config.{each}" for each in options])
    experiment = assemble(config, draw_dataset(config, 8))
    split = experiment.splits.train
    batch = {"image": split.images, "label": split.labels, "mask": np.ones(8, bool)}
    before = jax.device_get(experiment.create_state())

    def step(device):
        state, images = jax.device_put((before, batch), device)
        after, metrics = jax.jit(experiment.train_step)(state, images)
        # With a learning rate of 1, the difference is the gradient.
        changes = jax.tree.map(lambda a, b: np.asarray(a) - b, after.params, before.params)
        return float(metrics.loss), changes, jax.device_get(after.batch_stats)

    ours, expected = step(jax.devices()[0]), step(cpu())
    assert ours[0] == pytest.approx(expected[0], rel=1e-4)
    assert relative_error(ours[1], expected[1]) < 1e-2
    if expected[2]:
        assert relative_error(ours[2], expected[2]) < 1e-4


def test_a_split_is_scored_in_one_call_as_in_many():
    config = resolve_config(EXPERIMENTS / "alexnet_pool.py", ["--config.train.devices=1"])
    experiment = assemble(config, draw_dataset(config, 700))
    evaluate = compile_evaluation(experiment.eval_step, experiment.devices)
    state = experiment.devices.put(experiment.create_state())
    split = experiment.splits.validation
    at_once = experiment.eval_feed(split)
    assert (at_once.batch_size, at_once.stacked) == (512, 2)
    many = make_feed(split, 64, 1, one_device(), "streamed")
    ours, expected = (score(evaluate, state, feed) for feed in (at_once, many))
    assert ours.loss == pytest.approx(expected.loss, rel=1e-3)
    assert np.mean(ours.logits.argmax(1) == expected.logits.argmax(1)) > 0.99


def test_a_deterministic_run_that_was_stopped_ends_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    often = ["--config.checkpoint.every_steps=1", "--config.train.steps_per_execution=1"]

    def training(name):
        return start("main", *DETERMINISTIC, *often, f"--workdir={tmp_path / name}")

    with training("stopped") as stopped:
        stopped.wait_for(lambda: list((tmp_path / "stopped/checkpoints/midway").glob("[0-9]*")))
        stopped.send(signal.SIGTERM)
        assert stopped.end().code == 128 + signal.SIGTERM
    for name in ("stopped", "whole", "again"):
        with training(name) as process:
            assert process.end().code == 0
    expected = flaxlab.load(tmp_path / "whole")[1]
    assert_same_bits(flaxlab.load(tmp_path / "again")[1], expected)
    assert_same_bits(flaxlab.load(tmp_path / "stopped")[1], expected)


def test_a_run_takes_several_steps_a_call_and_learns(tmp_path):
    options = [f"--config={EXPERIMENTS / 'digits_small.py'}", "--config.log.progress=none"]
    main([*options, f"--workdir={tmp_path}"])
    assert json.loads((tmp_path / "summary.json").read_text())["final_val_accuracy"] > 0.9
