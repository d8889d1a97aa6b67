"""Kinds and places of dropout in the blocks of VGG on CIFAR-10.

    python -m flaxlab.suite --config=experiments/suites/dropout_kinds.py

Single values, whole channels or regions; and before the normalization, where by Li et al. (2018) it
shifts the variance that batch normalization has learned.
"""

from flaxlab.suite.definition import Suite
from flaxlab.suite.designs import sweep


def get_suite() -> Suite:
    kinds = sweep("model.block_dropout_kind", ("channel", "region"))
    places = sweep("model.dropout_place", ("before_norm",))
    return Suite(name="dropout_kinds", baseline="vgg_growing_dropouts", arms=(*kinds, *places))
