"""What rounding does to a loss curve: fast kernels, plain lax, and plain lax in another order.

    python benchmarks/loss_curves.py --config=experiments/alexnet_pool.py --steps=50

The same initial state takes the same steps three times: with the fast kernels, with plain lax, and
with plain lax that sums over the channels backwards, which is exactly as right. The last two show
how far rounding alone takes a run; the kernels are good if they go no further. Prints the largest
difference to plain lax in the loss of a step, in nats, within the first steps, and the mean loss of
the last five. Fields of the config are set as for `flaxlab.main`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from flaxlab import kernels
from flaxlab.batches.order import train_batches
from flaxlab.command_line import CommandParser, run_command
from flaxlab.data.dataset import Dataset
from flaxlab.data.load import load_dataset
from flaxlab.data.shape import resolve_config
from flaxlab.machine import use_huge_pages
from flaxlab.training.experiment import assemble


def backwards(x: jax.Array, w: jax.Array, *arguments: Any, **options: Any) -> jax.Array:
    """Convolves as `lax.conv_general_dilated`, the last channel first."""
    return lax.conv_general_dilated(x[..., ::-1], w[:, :, ::-1], *arguments, **options)


def losses(
    config: ConfigDict, dataset: Dataset, computed_by: kernels.Kernels, steps: int
) -> np.ndarray:
    """Returns the mean cross entropy of each of the first steps."""
    experiment = assemble(config, dataset, computed_by)
    step = jax.jit(experiment.train_step, donate_argnums=0)
    split, size = experiment.splits.train, config.train.batch_size
    epochs = (train_batches(split, size, config.seed, epoch) for epoch in count(1))
    state, found = experiment.create_state(), []
    for batch in islice(chain.from_iterable(epochs), steps):
        state, metrics = step(state, batch)
        found.append(float(metrics.loss) / int(metrics.count))
    return np.array(found)


def main(arguments: Sequence[str]) -> None:
    """Takes the steps, and prints the differences as a Markdown table."""
    parser = CommandParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", required=True, type=Path, help="experiment file")
    parser.add_argument("--steps", type=int, default=50)
    options, overrides = parser.parse_known_args(arguments)
    config = resolve_config(options.config, overrides)
    dataset = load_dataset(config.data)
    ways = {
        "plain lax": kernels.PLAIN,
        "plain lax, channels backwards": kernels.Kernels(backwards, nn.max_pool),
        "fast kernels": kernels.for_backend("cpu"),
    }
    curves = {name: losses(config, dataset, way, options.steps) for name, way in ways.items()}
    plain = curves["plain lax"]
    shown = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500) if n <= options.steps]
    print(f"| largest difference within | {' | '.join(f'{n} steps' for n in shown)} | last loss |")
    print("|---|" + "---|" * (len(shown) + 1))
    for name, curve in curves.items():
        differences = [f"{np.abs(curve - plain)[:n].max():.1e}" for n in shown]
        print(f"| {name} | {' | '.join(differences)} | {curve[-5:].mean():.4f} |")


if __name__ == "__main__":
    use_huge_pages()
    run_command(main, sys.argv[1:])
