"""The residual network of 20 layers with and without its shortcuts on CIFAR-10.

    python -m flaxlab.suite --config=experiments/suites/shortcuts.py

The third arm has convolutions of 1x1 in its shortcuts where a stage begins.
"""

from flaxlab.suite.definition import Suite
from flaxlab.suite.designs import sweep


def get_suite() -> Suite:
    kinds = sweep("model.shortcut", ("none", "projection"))
    return Suite(name="shortcuts", baseline="resnet20", arms=kinds)
