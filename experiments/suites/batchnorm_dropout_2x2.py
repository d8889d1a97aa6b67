"""Batch normalization and dropout in VGG on CIFAR-10: with and without each.

    python -m flaxlab.suite --config=experiments/suites/batchnorm_dropout_2x2.py

The lab report has two of the four: growing dropouts with batch normalization (the best VGG) and
without (it does not learn: claim 8). Alone, neither could say which of the two is to blame.
"""

from experiments.claims import CLAIMS
from flaxlab.suite.definition import Suite


def get_suite() -> Suite:
    return Suite(
        name="batchnorm_dropout_2x2",
        baseline="vgg_growing_dropouts",
        arms=(
            "vgg_no_batchnorm",
            "vgg_no_dropout",
            "vgg_no_batchnorm_no_dropout",
        ),
        factors={
            "no batch normalization": ("vgg_no_batchnorm", "vgg_no_batchnorm_no_dropout"),
            "no dropout": ("vgg_no_dropout", "vgg_no_batchnorm_no_dropout"),
        },
        claims={number: CLAIMS[number] for number in (8,)},
    )
