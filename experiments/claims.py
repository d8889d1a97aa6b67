"""The eight claims of the lab report, each of which it draws from one run of an arm.

A claim becomes one or several statements about arms. Where the report's words are vague, they get a
meaning here:

- "A little" (1): better, and by less than two points.
- "The gap" (2): training minus validation accuracy with dropout off in both. Keras measures the
  training accuracy with dropout on, so that a network with dropout seems to overfit less than it
  does.
- "Slows convergence" (3): a lower accuracy on the mean of all epochs. Epochs to a share of a run's
  own last accuracy would call a run fast because its last epoch is bad.
- "A higher best epoch" (3): on a test split that did not choose the epoch. The best of ten epochs
  on the split that scores them rewards a curve that wobbles, so that runs without a holdout do not
  test it.
- "Unstable", "jumps" (3, 6): a larger spread between late epochs than the other network has. The
  largest fall of a curve exceeds a point by chance alone.
- "Does not help" (4): is less than one point better.
- "Does not learn" (8): more than half of the runs collapse or diverge. That all do, no number of
  runs shows. Beside claim 7, even five of five leave it undecided; six of six show it.
"""

from flaxlab.claims import Claim, Collapses, Statement

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
        (
            Statement("accuracy", "alexnet_default", "alexnet_no_batchnorm"),
            Statement("accuracy", "alexnet_no_batchnorm", "alexnet_default", margin=0.02),
        ),
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
            Statement("mean_accuracy", "alexnet_default", "alexnet_conv_dropout"),
            Statement("best_accuracy", "alexnet_conv_dropout", "alexnet_default"),
            Statement("late_spread", "alexnet_conv_dropout", "alexnet_default"),
        ),
    ),
    4: Claim(
        "L2 0.01 with small dropouts does not help.",
        "fashion_mnist",
        (Statement("accuracy", "alexnet_default", "alexnet_l2", margin=0.01),),
        "This arm has ReLU in its head, where the others have tanh: the claim is about all three"
        " changes together.",
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
            Statement("late_spread", "vgg_fashion", "alexnet_default"),
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
        (Collapses("vgg_no_batchnorm"),),
        "The report has one run. Runs show in what share of them it does not learn, never that it"
        " cannot.",
    ),
}
