"""Shows what one training step of an experiment consists of, changes and costs.

Everything comes from the real objects: the modules, the random keys, the state before and after the
first step, and the compiled program. The command takes three steps and saves nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from flaxlab.command_line import CommandParser, run_command
from flaxlab.machine import take_gpu_memory_as_needed, use_huge_pages

_EXAMPLES = """examples:
  python -m flaxlab.explain --config=experiments/digits_small.py
  python -m flaxlab.explain --config=experiments/alexnet_pool.py
  python -m flaxlab.explain --config=experiments/alexnet_pool.py --config.data.name=digits
  python -m flaxlab.explain --config=experiments/alexnet_l2.py --config.train.steps_per_execution=4

--config.FIELD=VALUE overrides any field of flaxlab/config/default.py. If Fashion-MNIST or
CIFAR-10 is not available, random images of the same shape are used, and the first lines say so.
"""


def main(arguments: Sequence[str]) -> None:
    """Takes three steps, and prints what they consist of, change and cost.

    Raises:
        UsageError: an option, the experiment file or an override is wrong.
    """
    take_gpu_memory_as_needed()
    parser = CommandParser(
        prog="python -m flaxlab.explain",
        description=__doc__,
        epilog=_EXAMPLES,
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, type=Path, help="experiment file, or its name")
    options, overrides = parser.parse_known_args(arguments)
    # Importing JAX and the rest takes a second: not before the options are known to be right.
    from flaxlab.explain.command import explain

    explain(options.config, overrides)


if __name__ == "__main__":
    use_huge_pages()
    run_command(main, sys.argv[1:])
