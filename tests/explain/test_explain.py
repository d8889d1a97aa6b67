"""What `flaxlab.explain` says of one step is what the step does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxlab import models
from flaxlab.data.catalog import CATALOG
from flaxlab.errors import UsageError
from flaxlab.explain.__main__ import main
from flaxlab.explain.changes import list_changes, moments, on_host
from flaxlab.explain.program import take_first_steps
from flaxlab.training.experiment import assemble
from tests.helpers.refusals import refused
from tests.helpers.runs import POOL_FILE, SMALL_POOL, small_config, small_dataset


@pytest.fixture(scope="module")
def experiment():
    # 21 examples in batches of 8: the last batch of an epoch has five.
    return assemble(small_config(), small_dataset())


@pytest.fixture(scope="module")
def found(experiment):
    return take_first_steps(experiment)


def test_the_changes_are_those_of_the_step(experiment, found):
    state = experiment.create_state()
    batch = {
        "image": small_dataset().train.images[np.random.default_rng((0, 1)).permutation(21)[:8]],
        "label": small_dataset().train.labels[np.random.default_rng((0, 1)).permutation(21)[:8]],
        "mask": np.ones(8, bool),
    }
    after, metrics = jax.jit(experiment.train_step)(state, batch)
    assert found.loss == pytest.approx(float(metrics.loss) / 8, rel=1e-5)
    changes = {f"{change.field}/{change.path}": change for change in found.changes}
    assert len(changes) == len(jax.tree.leaves(state))
    assert (changes["step/"].before, changes["step/"].after) == (0, 1)
    assert changes["key/"].changed == 0
    assert changes["opt_state/0/count"].after == 1
    variance = changes["batch_stats/block1/norm/var"]
    expected = after.batch_stats["block1"]["norm"]["var"]
    assert variance.before == 1
    assert variance.after == pytest.approx(float(jnp.sqrt(jnp.mean(expected**2))), rel=1e-5)
    assert variance.changed == variance.size == 4
    kernel = changes["params/output/kernel"]
    moved = after.params["output"]["kernel"] - state.params["output"]["kernel"]
    assert kernel.moved == pytest.approx(float(jnp.sqrt(jnp.mean(moved**2))), rel=1e-3)


def test_moments_are_grouped_by_what_they_are_moments_of(experiment, found):
    groups = moments(found.changes, experiment.create_state().params)
    assert list(groups) == ["0/mu", "0/nu"]
    params = [change.path for change in found.changes if change.field == "params"]
    for name, group in groups.items():
        assert [change.path for change in group] == [f"{name}/{path}" for path in params]


def test_nothing_changes_where_nothing_is_done(experiment):
    state = on_host(experiment.create_state())
    changes = list_changes(state, state)
    assert {(change.changed, change.moved) for change in changes} == {(0, 0.0)}


@pytest.mark.parametrize(("steps", "compiled"), [(1, 1), (2, 2), (3, 1)])
def test_programs_are_counted_as_jit_counts_them(steps, compiled):
    # Of three batches, two calls of two steps need a shorter program for the last one.
    experiment = assemble(small_config(**{"train.steps_per_execution": steps}), small_dataset())
    found = take_first_steps(experiment)
    assert (found.steps, found.compiled) == (steps, compiled)
    assert sum(count for _, count in found.examples) == 21
    assert len(found.examples) == len(found.seconds) == -(-3 // steps)


def test_the_cost_is_the_compilers(experiment, found):
    cost = found.cost
    state_bytes = sum(values.nbytes for _, values in on_host(experiment.create_state()).values())
    # The state is given, returned, and returned in its own place; so are a few sums and
    # a table of where they lie.
    for size in (cost.outputs, cost.aliased):
        assert state_bytes <= size < state_bytes + 1000
    assert cost.arguments > cost.outputs
    assert cost.temporary > 0
    assert cost.peak == cost.arguments + cost.temporary + cost.outputs - cost.aliased
    forward = 8 * sum(row.flops for row in experiment.layers)
    assert cost.flops > forward
    wider = assemble(small_config(**{"model.head_units": (64, 64)}), small_dataset())
    assert take_first_steps(wider).cost.flops > cost.flops


def test_modules_are_traced_with_their_blocks(experiment):
    calls, variables = models.trace_modules(experiment.model, (8, 8, 1))
    kinds = {"/".join(path): type(module).__name__ for path, (module, *_) in calls.items()}
    assert kinds[""] == "AlexNet"
    assert kinds["block1"] == "ConvBlock"
    assert {row.path: row.kind for row in experiment.layers}.items() <= kinds.items()
    assert calls[("block1",)].shape == calls[("block1", "dropout")].shape == (4, 4, 4)
    assert set(variables) == {"params", "batch_stats"}


def test_everything_is_printed(capsys):
    main(SMALL_POOL)
    shown = capsys.readouterr().out
    for text in (
        "alexnet_pool on Digits",
        "conv1  Conv  -> 8x8x8  bias 8  kernel 3x3x1x8",
        "mean 8 (running)",
        "head1/dropout: drops 50% of 16 values",
        "arrays that changed: step 1 of 1, params 10 of 10, batch_stats 2 of 2,",
        "key 0 of 1",
        "batch_stats/block1/norm/var",
        "compiled 1 time for 3 calls (32 examples, 32 examples, 32 examples)",
        "peak memory",
    ):
        assert text in shown
    words = jax.random.key_data(jax.random.fold_in(jax.random.split(jax.random.key(0))[1], 1))
    assert " ".join(f"{word:08x}" for word in words.tolist()) in shown


def test_the_key_of_the_state_is_the_one_that_is_shown(experiment):
    shown = jax.random.split(jax.random.key(0))[1]
    state = experiment.create_state()
    assert (jax.random.key_data(state.key) == jax.random.key_data(shown)).all()


def without_data(monkeypatch):
    monkeypatch.setattr("flaxlab.data.load.reachable", lambda url: False)
    entry = dataclasses.replace(CATALOG["fashion_mnist"], system_folder=None)
    monkeypatch.setitem(CATALOG, "fashion_mnist", entry)


def test_data_that_cannot_be_had_are_drawn_and_it_says_so(capsys, monkeypatch):
    without_data(monkeypatch)
    main([argument for argument in SMALL_POOL if "data." not in argument])
    first, second = capsys.readouterr().out.splitlines()[:2]
    noise = "noise in the shape of Fashion-MNIST: 100 images drawn at random."
    assert first == f"alexnet_pool on {noise}"
    assert second.startswith("The images are random, because the data set is not available: ")


def test_data_that_are_there_and_wrong_are_not_replaced(capsys, monkeypatch, tmp_path):
    without_data(monkeypatch)
    monkeypatch.setattr("flaxlab.explain.stand_in.prepared_folder", lambda *_: tmp_path)
    with pytest.raises(UsageError, match="not prepared"):
        main([f"--config={POOL_FILE}"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config"),
        (["--config=experiments/nothing.py"], "there is no experiment file"),
        ([*SMALL_POOL, "--config.train.epoch=3"], "did you mean --config.train.epochs?"),
        (
            [*SMALL_POOL, "--config.data.image_shape=(2, 2, 1)", "--config.model.padding=VALID"],
            "does not fit",
        ),
        ([*SMALL_POOL, "--config.data.name=folder"], "needs --config.data.folder=DIR"),
        ([*SMALL_POOL, "what"], "unexpected argument 'what'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert message in refused(main, arguments, capsys)
