"""The VGGs of the lab report on CIFAR-10, each against the default.

    python -m flaxlab.suite --config=experiments/suites/vgg_cifar.py

Where dropout goes and what batch normalization is worth: claims 7 and 8.
"""

from flaxlab.suite.definition import Arm, Suite


def get_suite() -> Suite:
    return Suite(
        name="vgg_cifar",
        baseline="vgg_default",
        arms=(
            Arm("vgg_head_dropout04"),
            Arm("vgg_many_dropouts", claim=7),
            Arm("vgg_growing_dropouts", claim=7),
            Arm("vgg_no_batchnorm", claim=8),
            Arm("vgg_deep_head"),
        ),
    )
