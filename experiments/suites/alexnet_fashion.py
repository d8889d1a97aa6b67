"""The six AlexNets of the lab report on Fashion-MNIST, each against the default.

    python -m flaxlab.suite --config=experiments/suites/alexnet_fashion.py

Batch normalization, dropout, L2 regularization and pooling, one at a time: claims 1 to 5.
"""

from flaxlab.suite.definition import Arm, Suite


def get_suite() -> Suite:
    return Suite(
        name="alexnet_fashion",
        baseline="alexnet_default",
        arms=(
            Arm("alexnet_no_batchnorm", claim=1),
            Arm("alexnet_no_dropout", claim=2),
            Arm("alexnet_conv_dropout", claim=3),
            Arm("alexnet_l2", claim=4),
            Arm("alexnet_pool", claim=5),
        ),
    )
