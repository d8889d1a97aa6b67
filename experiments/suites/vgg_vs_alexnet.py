"""VGG against every AlexNet of the lab report, on Fashion-MNIST.

    python -m flaxlab.suite --config=experiments/suites/vgg_vs_alexnet.py

Claim 6: VGG beats them all, with jumps between epochs.
"""

from experiments.claims import ALEXNETS, CLAIMS
from flaxlab.suite.definition import Suite


def get_suite() -> Suite:
    return Suite(
        name="vgg_vs_alexnet",
        baseline="vgg_fashion",
        arms=ALEXNETS,
        claims={number: CLAIMS[number] for number in (6,)},
    )
