"""The eight claims of the lab report, each of which it draws from one run of an arm.

A claim becomes one or several inequalities between arms. Some words of the report are vague, and
get a meaning here. "Does not help" (4): is less than one point better. "Jumps" (6): the validation
accuracy falls by more than one point from an epoch to the next. "Does not learn" (8): a validation
accuracy below 15% where chance is 10%. "A little" (1) is not tested: any help supports the claim.
"""

from flaxlab.claims import Claim, Statement

ALEXNETS = (
    "alexnet_default",
    "alexnet_no_batchnorm",
    "alexnet_no_dropout",
    "alexnet_conv_dropout",
    "alexnet_l2",
    "alexnet_pool",
)

CLAIMS: dict[int, Claim] = {
    1: Claim(
        "Batch normalization helps AlexNet a little.",
        "fashion_mnist",
        (Statement("accuracy", "alexnet_default", "alexnet_no_batchnorm"),),
    ),
    2: Claim(
        "Without dropout in the head, accuracy falls and the gap between training and validation"
        " grows.",
        "fashion_mnist",
        (
            Statement("accuracy", "alexnet_default", "alexnet_no_dropout"),
            Statement("gap", "alexnet_no_dropout", "alexnet_default"),
        ),
    ),
    3: Claim(
        "Dropout after the convolutions slows convergence, with a higher best epoch and an"
        " unstable last one.",
        "fashion_mnist",
        (
            Statement("epochs_to_95", "alexnet_conv_dropout", "alexnet_default"),
            Statement("best_accuracy", "alexnet_conv_dropout", "alexnet_default"),
            Statement("fall_from_best", "alexnet_conv_dropout", "alexnet_default"),
        ),
    ),
    4: Claim(
        "L2 0.01 with small dropouts does not help.",
        "fashion_mnist",
        (Statement("accuracy", "alexnet_default", "alexnet_l2", margin=0.01),),
    ),
    5: Claim(
        "Padded convolutions with strided pools make the best AlexNet.",
        "fashion_mnist",
        tuple(
            Statement("accuracy", "alexnet_pool", other)
            for other in ALEXNETS
            if other != "alexnet_pool"
        ),
    ),
    6: Claim(
        "VGG beats every AlexNet, with jumps between epochs.",
        "fashion_mnist",
        (
            *(Statement("accuracy", "vgg_fashion", other) for other in ALEXNETS),
            Statement("largest_fall", "vgg_fashion", 0.01),
        ),
    ),
    7: Claim(
        "Dropout 0.5 everywhere hurts VGG; growing dropout makes the best VGG.",
        "cifar10",
        (
            Statement("accuracy", "vgg_default", "vgg_many_dropouts"),
            Statement("accuracy", "vgg_growing_dropouts", "vgg_default"),
            Statement("accuracy", "vgg_growing_dropouts", "vgg_head_dropout04"),
            Statement("accuracy", "vgg_growing_dropouts", "vgg_many_dropouts"),
        ),
    ),
    8: Claim(
        "VGG without batch normalization does not learn at all.",
        "cifar10",
        (Statement("accuracy", 0.15, "vgg_no_batchnorm"),),
    ),
}
