"""NaN and infinity in loss and gradients, and a device without memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxlab.batches.devices import one_device
from flaxlab.errors import RunFailed
from flaxlab.run.history import from_numbers, to_numbers
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble
from flaxlab.training.metrics import no_metrics
from flaxlab.training.programs import compile_programs
from flaxlab.training.step import make_train_step
from tests.helpers.comparing import assert_same_bits
from tests.helpers.runs import small_config, small_dataset


def batch(value=0.0):
    split = small_dataset().train
    return {
        "image": split.images[:8].astype(np.float32) + value,
        "label": split.labels[:8],
        "mask": np.ones(8, bool),
    }


def steps(**options):
    experiment = assemble(small_config(), small_dataset())
    step = make_train_step(
        experiment.model,
        experiment.optimizer,
        lambda images: images / 255,
        lambda params: jnp.zeros(()),
        **options,
    )
    return experiment.create_state(), jax.jit(step)


def test_a_step_that_is_skipped_changes_nothing_but_its_number():
    state, step = steps(skip_nonfinite=True)
    state, _ = step(state, batch())
    after, metrics = step(state, batch(np.nan))
    expected = state.replace(step=state.step + 1)
    assert_same_bits(after, expected)
    assert metrics.nonfinite_step == 1
    numbers = to_numbers(metrics)
    assert (numbers["skipped"], numbers["steps"], numbers["count"], numbers["loss"]) == (1, 0, 0, 0)


def test_skipping_leaves_finite_steps_as_they_are():
    state, skipping = steps(skip_nonfinite=True)
    _, plain = steps()
    for a, b in zip(
        jax.tree.leaves(skipping(state, batch())[0].params),
        jax.tree.leaves(plain(state, batch())[0].params),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)


def test_a_gradient_that_is_not_finite_is_found_though_the_loss_is():
    experiment = assemble(small_config(), small_dataset())
    # The square root has an infinite slope at 0, and a finite value.
    step = make_train_step(
        experiment.model,
        experiment.optimizer,
        lambda images: images / 255,
        lambda params: jnp.sqrt(jnp.sum(jnp.abs(params["output"]["bias"]))),
    )
    state = experiment.create_state()
    _, metrics = jax.jit(step)(state, batch())
    assert np.isfinite(metrics.loss)
    assert np.isfinite(metrics.penalty)
    assert metrics.nonfinite_step == 0


@pytest.mark.parametrize("how", ["stop", "skip"])
def test_a_run_with_one_bad_step(tmp_path, monkeypatch, how, caplog):
    """A weight that is NaN for one step alone, by a preprocessing that knows its batch."""
    config = small_config(**{"train.on_nonfinite": how, "train.epochs": 2})
    dataset = small_dataset()
    # One image that no other equals; the step that it is in is the bad one.
    dataset.train.images[:] = np.minimum(dataset.train.images, 250)
    dataset.train.images[5] = 255

    def poisoned(images, scaling):
        bad = jnp.any(jnp.all(images == 255, axis=(1, 2, 3)))
        return jnp.where(bad, jnp.nan, images.astype(jnp.float32) / 255)

    monkeypatch.setattr("flaxlab.training.experiment.scale_pixels", poisoned)
    experiment = assemble(config, dataset)
    if how == "stop":
        with pytest.raises(RunFailed, match=r"NaN or infinite in step [123] \(epoch 1\)") as error:
            train(experiment, tmp_path)
        said = "; what was saved before is kept. Try a lower --config.optimizer.learning_rate"
        assert str(error.value).split("(epoch 1)")[1] == (
            f"{said}, or --config.train.on_nonfinite=skip"
        )
        return
    result = train(experiment, tmp_path)
    # The image may fill up the last batch as well.
    assert all(row.skipped_steps in (1, 2) for row in result.history)
    assert all(np.isfinite(row.train_loss) for row in result.history)
    assert "steps of epoch 1 were skipped, from step" in caplog.text
    assert "skipped_steps" in (tmp_path / "history.csv").read_text()


def test_a_run_whose_every_step_is_bad_does_not_go_on_forever(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "flaxlab.training.experiment.scale_pixels",
        lambda images, scaling: jnp.full(images.shape, jnp.nan),
    )
    config = small_config(**{"train.on_nonfinite": "skip", "train.epochs": 50})
    with pytest.raises(RunFailed, match="NaN or infinite in every step of epoch 1"):
        train(assemble(config, small_dataset()), tmp_path)


def test_nothing_that_is_not_finite_is_saved_inside_of_an_epoch(tmp_path):
    rate = {"optimizer.name": "sgd", "optimizer.learning_rate": 1e30, "checkpoint.every_steps": 1}
    with pytest.raises(RunFailed, match="NaN or infinite in step"):
        train(assemble(small_config(**rate), small_dataset()), tmp_path)
    saved = list((tmp_path / "checkpoints/midway").iterdir())
    assert [path.name for path in saved] in ([], ["1"])  # the first step's loss is finite


def test_metrics_go_through_numbers_to_the_bit():
    values = np.random.default_rng(0).normal(size=4).astype(np.float32)
    metrics = no_metrics().replace(
        loss=jnp.asarray(values[0]), penalty=jnp.asarray(values[1]), count=jnp.asarray(7)
    )
    found = from_numbers(to_numbers(metrics))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(metrics), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def programs_of(experiment):
    return compile_programs(experiment, one_device())


@pytest.mark.parametrize(
    "said",
    [
        "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes",
        "INTERNAL: failed to create cublas handle: CUBLAS_STATUS_ALLOC_FAILED",
        "INTERNAL: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "INTERNAL: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "INTERNAL: failed to allocate: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
    ],
)
def test_a_lack_of_memory_names_the_batch_size_and_what_to_try(tmp_path, said):
    experiment = assemble(small_config(), small_dataset())

    def no_room(*arguments):
        raise jax.errors.JaxRuntimeError(said)

    with pytest.raises(RunFailed) as error:
        train(experiment, tmp_path, programs=programs_of(experiment)._replace(train=no_room))
    assert f"out of memory with batches of 8 ({said})" in str(error.value)
    assert "--config.train.batch_size=4" in str(error.value)
    assert "--config.data.placement=streamed" in str(error.value)


def test_other_failures_of_the_device_are_not_called_a_lack_of_memory(tmp_path):
    experiment = assemble(small_config(), small_dataset())

    def broken(*arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        train(experiment, tmp_path, programs=programs_of(experiment)._replace(train=broken))
