"""How far a training step is from float64: the thirteen networks of the lab report.

    python -m benchmarks.step_error

For each network, the second step of a run as it is trained (the same compiled program: its kernels,
float32, dropout and penalty) gives a loss and gradients, and so does the same run with plain `lax`
(`--config.train.fast_kernels=false`). Both are compared with loss and gradients in float64 by plain
`lax`, from the same weights, images and dropout masks. Not the first step: all biases are 0 in it,
and on a black background ReLU gets exactly 0 by plain `lax` and what rounding leaves by Winograd's
kernels: at thousands of pixels it lets a gradient pass to the bias, or not. Prints a table of
relative errors; the exit code is 1 where an error is larger than its bound. The images are
scikit-learn's digits, scaled up: they need no download. Takes one to two minutes and up to 5 GB
for each network, on two cores.

Where the bounds come from. Winograd's kernels round up to 20 times as much as a direct sum does
(flaxlab/kernels/winograd.py), so the loss may have 20 times the error that it has with plain `lax`.
Gradients have steps: of millions of units, float32 puts some on the other side of zero than float64
does, and what they pass back is there or not. With 20 times the rounding there are 20 times as many
of them, and the norm of what they pass back is sqrt(20) = 4.5 times as large: so much the gradients
may have. Plain `lax` can be lucky, with a loss that is right by accident, or with no such unit (its
error is then thousands of times smaller; another order of its sums, which is as right, gives one).
To the bound of the loss, 1e-5 is added; to that of the gradients, what one unit of one image does
in the head: 2 / sqrt(units of a layer * images) on average, as a quarter of them is neither dropped
nor zero, and seen to be up to 4.4 of it (`vgg_default`, 16 drawn images).
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax

from flaxlab import models
from flaxlab.batches.order import train_batches
from flaxlab.command_line import CommandParser, positive_number, run_command
from flaxlab.config import ConfigDict
from flaxlab.data.dataset import Dataset
from flaxlab.data.digits import load_digits
from flaxlab.data.shape import image_shape
from flaxlab.data.splits import split_for_run
from flaxlab.errors import RunFailed
from flaxlab.machine import use_huge_pages
from flaxlab.training.experiment import Experiment, assemble
from flaxlab.training.metrics import Metrics, means, no_metrics
from flaxlab.training.penalty import penalised_kernels
from flaxlab.training.programs import compile_training
from flaxlab.training.state import Params, TrainState

NETWORKS = (
    "alexnet_default",
    "alexnet_no_batchnorm",
    "alexnet_no_dropout",
    "alexnet_conv_dropout",
    "alexnet_l2",
    "alexnet_pool",
    "vgg_fashion",
    "vgg_default",
    "vgg_head_dropout04",
    "vgg_many_dropouts",
    "vgg_growing_dropouts",
    "vgg_no_batchnorm",
    "vgg_deep_head",
)
BATCH = 64

_ROUNDING = 20.0
_LOSS_FLOOR = 1e-5
_ONE_UNIT = 4.5


class Step(NamedTuple):
    """What a step computes.

    Attributes:
        loss: mean cross entropy plus penalty, in nats.
        gradients: of the loss.
    """

    loss: float
    gradients: Params


class Errors(NamedTuple):
    """How far a step is from float64, relatively.

    Attributes:
        loss: |loss - loss64| / |loss64|.
        gradients: ||g - g64|| / ||g64|| over all parameters.
    """

    loss: float
    gradients: float


class Comparison(NamedTuple):
    """A step of one network beside float64.

    Attributes:
        ours: errors of the step as it is trained.
        plain: errors of the step with plain `lax` in float32.
        units: of the narrowest hidden layer, times the images of the batch.
    """

    ours: Errors
    plain: Errors
    units: int

    @property
    def bounds(self) -> Errors:
        """The largest errors that `ours` may have; see the top of this file."""
        return Errors(
            loss=_ROUNDING * self.plain.loss + _LOSS_FLOOR,
            gradients=math.sqrt(_ROUNDING) * self.plain.gradients
            + _ONE_UNIT / math.sqrt(self.units),
        )

    def broken(self) -> list[str]:
        """Says which bounds are broken; NaN breaks each."""
        found = zip(Errors._fields, self.ours, self.bounds, strict=True)
        return [
            f"{name}: {error:.1e} from float64, at most {bound:.1e} is right"
            for name, error, bound in found
            if not error <= bound
        ]


def compare(config: ConfigDict, batch_size: int = BATCH) -> Comparison:
    """Computes the second step of `config` as it is trained, by plain `lax`, and in float64.

    Args:
        config: an experiment's, with Adam, "unit" scaling and no penalty but L2. Its images are
            replaced by the digits, brought to their shape.
        batch_size: examples of the step.
    """
    config = config.copy_and_resolve_references()
    config.train.batch_size = batch_size
    config.train.devices = 1
    dataset = load_digits(image_shape(config.data))
    trained = assemble(config, dataset)
    take_step = step_program(trained)
    state, _ = take_step(trained.create_state())
    start = state.replace(opt_state=trained.optimizer.init(state.params))
    ours = step_from_zero_averages(config, *take_step(start))
    config.train.fast_kernels = False
    take_plain_step = step_program(assemble(config, dataset))
    plain = step_from_zero_averages(config, *take_plain_step(start))
    reference = step_in_float64(config, dataset, start)
    units = batch_size * min(config.model.head_units)
    return Comparison(errors(ours, reference), errors(plain, reference), units)


def step_program(experiment: Experiment) -> Callable[[TrainState], tuple[TrainState, Metrics]]:
    """Returns the program of a run: state -> (state after the step that follows, its metrics)."""
    train, feed = (
        compile_training(experiment.train_step, experiment.devices),
        experiment.feeds().train,
    )

    def take_step(state: TrainState) -> tuple[TrainState, Metrics]:
        batches = next(feed.train_batches(experiment.config.seed, epoch=1, start=int(state.step)))
        # A copy: the program takes the memory of what it is given.
        given = experiment.devices.put((jax.tree.map(jnp.copy, state), no_metrics()))
        return train(*given, batches)

    return take_step


def step_from_zero_averages(config: ConfigDict, after: TrainState, metrics: Metrics) -> Step:
    """Reads loss and gradients off a step that began with Adam's averages at 0.

    The moving average of the gradients then holds them times 1 - b1.
    """
    average = jax.device_get(optax.tree.get(after.opt_state, "mu"))
    found = means(metrics)
    return Step(
        loss=found["loss"] + found["penalty"],
        gradients=jax.tree.map(lambda mean: mean / (1 - config.optimizer.b1), average),
    )


def step_in_float64(config: ConfigDict, dataset: Dataset, start: TrainState) -> Step:
    """Computes the same loss and gradients in float64 by plain `lax`.

    Loss, L2 penalty and scaling are written out: nothing of `flaxlab.training.step` is in it. The
    dropout masks are those of the run: `flaxlab.models.dropout.Dropout` draws the same ones.
    """
    train = split_for_run(config.data, dataset, config.seed).train
    batches = train_batches(train, config.train.batch_size, config.seed, epoch=1)
    batch = next(islice(batches, int(start.step), None))
    with jax.enable_x64(True):
        model = models.build(config.model, len(dataset.class_names)).clone(dtype="float64")
        params, statistics = jax.tree.map(
            lambda leaf: np.asarray(leaf, np.float64), (start.params, start.batch_stats)
        )

        def loss(params: Params) -> jax.Array:
            logits, _ = model.apply(
                {"params": params, "batch_stats": statistics},
                batch["image"] / np.float64(255),
                train=True,
                rngs={"dropout": jax.random.fold_in(start.key, start.step)},
                mutable=["batch_stats"],
            )
            right = jax.nn.log_softmax(logits)[np.arange(len(logits)), batch["label"]]
            squares = [jnp.sum(kernel**2) for kernel in penalised_kernels(params).values()]
            return -jnp.mean(right) + config.loss.l2 * sum(squares)

        value, gradients = jax.jit(jax.value_and_grad(loss))(params)
        if value.dtype != np.float64:
            raise TypeError(f"the reference was computed in {value.dtype}, not in float64")
        return Step(float(value), jax.device_get(gradients))


def errors(step: Step, reference: Step) -> Errors:
    """Compares a step with the one in float64."""
    found, right = map(jax.tree.leaves, (step.gradients, reference.gradients))
    off = sum(float(np.sum(np.square(a - b))) for a, b in zip(found, right, strict=True))
    norm = sum(float(np.sum(np.square(leaf))) for leaf in right)
    return Errors(abs(step.loss / reference.loss - 1), math.sqrt(off / norm))


def main(arguments: Sequence[str]) -> None:
    """Compares the networks, and prints the errors as a Markdown table.

    Raises:
        RunFailed: an error is larger than its bound.
    """
    parser = CommandParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--batch_size", type=positive_number, default=BATCH)
    options = parser.parse_args(arguments)
    print(f"jaxlib {jaxlib.__version__}, {jax.default_backend()}, batch {options.batch_size}\n")
    print(
        "| | loss: flaxlab | plain `lax` | at most | gradients: flaxlab | plain `lax` | at most |"
    )
    print("|---|---|---|---|---|---|---|")
    broken = []
    for name in options.networks:
        config = importlib.import_module(f"experiments.{name}").get_config()
        found = compare(config, options.batch_size)
        columns = zip(found.ours, found.plain, found.bounds, strict=True)
        figures = " | ".join(f"{number:.1e}" for column in columns for number in column)
        print(f"| `{name}` | {figures} |", flush=True)
        broken += [f"{name}, {line}" for line in found.broken()]
        jax.clear_caches()
    if broken:
        raise RunFailed("; ".join(broken))


if __name__ == "__main__":
    use_huge_pages()
    run_command(main, sys.argv[1:])
