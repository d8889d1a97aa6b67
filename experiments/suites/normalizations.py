"""Kinds of normalization in AlexNet on Fashion-MNIST, each in the place of batch normalization.

    python -m flaxlab.suite --config=experiments/suites/normalizations.py

Group normalization has 32 groups, as in Wu and He (2018).
"""

from flaxlab.suite.definition import Suite
from flaxlab.suite.designs import sweep


def get_suite() -> Suite:
    kinds = sweep("model.norm", ("group", "layer", "instance", "none"))
    return Suite(name="normalizations", baseline="alexnet_pool", arms=kinds)
