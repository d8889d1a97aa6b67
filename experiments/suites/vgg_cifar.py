"""The VGGs of the lab report on CIFAR-10, each against the default.

    python -m flaxlab.suite --config=experiments/suites/vgg_cifar.py

Where dropout goes and what batch normalization is worth: claims 7 and 8.
"""

from experiments.claims import CLAIMS
from flaxlab.suite.definition import Suite


def get_suite() -> Suite:
    return Suite(
        name="vgg_cifar",
        baseline="vgg_default",
        arms=(
            "vgg_head_dropout04",
            "vgg_many_dropouts",
            "vgg_growing_dropouts",
            "vgg_no_batchnorm",
            "vgg_deep_head",
        ),
        claims={number: CLAIMS[number] for number in (7, 8)},
    )
