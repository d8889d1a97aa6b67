"""The six AlexNets of the lab report on Fashion-MNIST, each against the default.

    python -m flaxlab.suite --config=experiments/suites/alexnet_fashion.py

Batch normalization, dropout, L2 regularization and pooling, one at a time: claims 1 to 5.
"""

from experiments.claims import CLAIMS
from flaxlab.suite.definition import Suite


def get_suite() -> Suite:
    return Suite(
        name="alexnet_fashion",
        baseline="alexnet_default",
        arms=(
            "alexnet_no_batchnorm",
            "alexnet_no_dropout",
            "alexnet_conv_dropout",
            "alexnet_l2",
            "alexnet_pool",
        ),
        claims={number: CLAIMS[number] for number in (1, 2, 3, 4, 5)},
    )
