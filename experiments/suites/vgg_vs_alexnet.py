"""VGG against every AlexNet of the lab report, on Fashion-MNIST.

    python -m flaxlab.suite --config=experiments/suites/vgg_vs_alexnet.py

Claim 6: VGG beats them all, with jumps between epochs.
"""

from flaxlab.suite.definition import Arm, Suite


def get_suite() -> Suite:
    return Suite(
        name="vgg_vs_alexnet",
        baseline="vgg_fashion",
        arms=(
            Arm("alexnet_default", claim=6),
            Arm("alexnet_no_batchnorm", claim=6),
            Arm("alexnet_no_dropout", claim=6),
            Arm("alexnet_conv_dropout", claim=6),
            Arm("alexnet_l2", claim=6),
            Arm("alexnet_pool", claim=6),
        ),
    )
