"""Batch normalization, dropout and an L2 penalty in AlexNet on Fashion-MNIST, in all combinations.

    python -m flaxlab.suite --config=experiments/suites/regularizers_2x2x2.py

The lab report takes one away at a time; here each is seen with and without the others.
"""

from flaxlab.suite.definition import Suite
from flaxlab.suite.designs import factorial


def get_suite() -> Suite:
    design = factorial(
        {
            "model.norm": ("batch", "none"),
            "model.head_dropout": ((0.5, 0.5), ()),
            "loss.l2": (0.0, 1e-4),
        }
    )
    return Suite(
        name="regularizers_2x2x2",
        baseline="alexnet_pool",
        arms=design.arms,
        factors=design.factors,
    )
