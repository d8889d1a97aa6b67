"""Finds the range of learning rates that an experiment can train with.

The learning rate grows from step to step, by the same factor, while the loss of each batch is
recorded: the range test of Smith (2017), "Cyclical Learning Rates for Training Neural Networks". It
ends when the loss is not a number, or four times its lowest value. Nothing of the network is saved.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flaxlab.command_line import CommandParser, positive_float, positive_number, run_command
from flaxlab.machine import take_gpu_memory_as_needed, use_huge_pages

_EXAMPLES = """examples:
  python -m flaxlab.rates --config=experiments/digits_small.py
  python -m flaxlab.rates --config=experiments/vgg_default.py --high=0.1 --steps=200
  python -m flaxlab.rates --config=experiments/resnet20.py --low=1e-4 --high=10

--config.FIELD=VALUE overrides any field of flaxlab/config/default.py; the schedule is replaced.
"""


def main(arguments: Sequence[str]) -> None:
    """Takes the steps, prints what they show, and writes rates.csv and rates.png.

    Raises:
        UsageError: an option, the experiment file or an override is wrong.
    """
    take_gpu_memory_as_needed()
    parser = CommandParser(
        prog="python -m flaxlab.rates",
        description=__doc__,
        epilog=_EXAMPLES,
        allow_abbrev=False,
    )
    rate: dict[str, Any] = {"type": positive_float, "metavar": "RATE"}
    parser.add_argument("--config", required=True, type=Path, help="experiment file, or its name")
    parser.add_argument("--low", default=1e-6, help="first learning rate; default 1e-6", **rate)
    parser.add_argument("--high", default=1.0, help="last learning rate; default 1", **rate)
    parser.add_argument(
        "--steps", type=positive_number, default=100, help="number of steps; default 100"
    )
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help="folder to write to; default runs/NAME_rates"
    )
    options, overrides = parser.parse_known_args(arguments)
    # Importing JAX and the rest takes a second: not before the options are known to be right.
    from flaxlab.rates.command import find_rates

    find_rates(options.config, overrides, options.low, options.high, options.steps, options.to)


if __name__ == "__main__":
    use_huge_pages()
    run_command(main, sys.argv[1:])
