"""What the fields of flaxlab's own networks may be; one's own network checks itself."""

from __future__ import annotations

from typing import Any

from flaxlab.config.checks import (
    Rule,
    above,
    are_counts,
    are_pairs,
    at_least,
    numbers,
    one_of,
    within,
)
from flaxlab.models.blocks import ACTIVATIONS, DROPOUT_PLACES, INITIALIZERS, NORM_PLACES
from flaxlab.models.dropout import DROPOUTS
from flaxlab.models.norm import NORMS
from flaxlab.models.pool import POOLINGS
from flaxlab.models.resnet import SHORTCUTS

_ANY: dict[str, Rule] = {
    "kernel_init": one_of(*INITIALIZERS),
    "norm": one_of(*NORMS),
    "norm_groups": at_least(1),
    "norm_epsilon": above(0.0),
    "batch_norm_momentum": within(0.0, 1.0),
    "dtype": one_of("float32", "bfloat16"),
}
_CONVNET: dict[str, Rule] = {
    "padding": one_of("SAME", "VALID"),
    "blocks": (
        lambda blocks: blocks and all(block and are_pairs(block) for block in blocks),
        "for each block a tuple of (filters, kernel side), all whole numbers from 1",
    ),
    "pools": (are_pairs, "for each block (window, stride), whole numbers from 1"),
    "strides": (
        are_counts,
        "for each block a whole number from 1, or () for 1",
    ),
    "block_activation": one_of(*ACTIVATIONS),
    "pool_kind": one_of(*POOLINGS),
    "norm_place": one_of(*NORM_PLACES),
    "block_dropout": numbers(within(0.0, 1.0)),
    "block_dropout_kind": one_of(*DROPOUTS),
    "block_dropout_region": at_least(1),
    "dropout_place": one_of(*DROPOUT_PLACES),
    "head_input": one_of("flatten", "average"),
    "head_units": (
        are_counts,
        "a tuple of whole numbers from 1",
    ),
    "head_activation": one_of(*ACTIVATIONS),
    "head_norm": one_of(*(kind for kind in NORMS if kind != "instance")),
    "head_dropout": numbers(within(0.0, 1.0)),
}
_RESNET: dict[str, Rule] = {
    "stages": (
        lambda stages: stages and are_counts(stages),
        "for each stage its number of residual blocks, whole numbers from 1",
    ),
    "filters": (
        lambda filters: are_counts(filters) and list(filters) == sorted(filters),
        "for each stage its number of filters, whole numbers from 1 that do not fall",
    ),
    "shortcut": one_of(*SHORTCUTS),
    "activation": one_of(*ACTIVATIONS),
    "branch_dropout": within(0.0, 1.0),
    "branch_dropout_kind": one_of(*DROPOUTS),
    "stochastic_depth": within(0.0, 1.0),
}

# By the names of the networks, {field: rule}.
MODEL_RULES: dict[str, dict[str, Rule]] = {
    "alexnet": _ANY | _CONVNET,
    "vgg": _ANY | _CONVNET,
    "resnet": _ANY | _RESNET,
}

# Tuples that need an entry for each entry of another: which one, and an example entry.
ENTRIES: dict[str, tuple[str, Any]] = {
    "model.pools": ("model.blocks", (2, 2)),
    "model.strides": ("model.blocks", 1),
    "model.block_dropout": ("model.blocks", 0.25),
    "model.head_dropout": ("model.head_units", 0.5),
    "model.filters": ("model.stages", 64),
}
# Of these, the ones that may be empty, for none.
MAY_BE_EMPTY = ("model.strides", "model.block_dropout", "model.head_dropout")
