"""What the table of layers says of knobs that have no parameters of their own."""

import io

import flax.linen as nn
import pytest
from rich.console import Console

from benchmarks.noise import draw_dataset
from flaxlab import models
from flaxlab.config.find import experiment_file
from flaxlab.data.shape import resolve_config
from flaxlab.models.blocks import INITIALIZERS
from flaxlab.run.console import print_experiment
from flaxlab.training.experiment import assemble
from tests.helpers.runs import deeper_config

TABLE = """
block1/conv1 Conv 3x3 glorot_uniform
block1/activation1 Activation relu
block1/conv2 Conv 3x3 glorot_uniform
block1/activation2 Activation relu
block1/pool Pool max 2x2 /2
block1/norm BatchNorm momentum 0.99
block1/dropout Dropout 0.1 of values
block2/conv1 Conv 3x3 glorot_uniform
block2/activation1 Activation relu
block2/pool Pool max 2x2
block2/norm BatchNorm momentum 0.99
block2/dropout Dropout 0.2 of values
head_input HeadInput flatten
head1/dense Dense glorot_uniform
head1/activation Activation tanh
head1/dropout Dropout 0.5 of values
head2/dense Dense glorot_uniform
head2/activation Activation tanh
head2/dropout Dropout 0.5 of values
output Dense glorot_uniform
"""


def table_of(model: nn.Module) -> list[str]:
    rows = models.layer_table(model, (8, 8, 1))
    return [" ".join(filter(None, (row.path, row.kind, row.settings))) for row in rows]


def convnet(**fields) -> nn.Module:
    changes = {f"model.{name}": value for name, value in fields.items()}
    return models.build(deeper_config(**changes).model, 3)


def test_the_table_of_a_convnet():
    assert table_of(convnet()) == TABLE.strip().splitlines()


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        ({"block_activation": "gelu"}, {"Activation relu": "Activation gelu"}),
        ({"head_input": "average"}, {"HeadInput flatten": "HeadInput average"}),
        (
            {"head_norm": "layer"},
            {f"head{n}/dropout": f"head{n}/norm LayerNorm\nhead{n}/dropout" for n in (1, 2)},
        ),
        ({"head_activation": "silu"}, {"Activation tanh": "Activation silu"}),
        ({"kernel_init": "orthogonal"}, {"glorot_uniform": "orthogonal"}),
        (
            {"standardize_kernels": True},
            {"3x3 glorot_uniform": "3x3 glorot_uniform standardized"},
        ),
        ({"pool_kind": "avg"}, {"Pool max": "Pool avg"}),
        ({"pool_kind": "blur"}, {"Pool max": "Pool blur"}),
        ({"strides": (2, 1)}, {"block1/conv1 Conv 3x3": "block1/conv1 Conv 3x3 /2"}),
        ({"batch_norm_momentum": 0.75}, {"momentum 0.99": "momentum 0.75"}),
        ({"norm": "layer"}, {"BatchNorm momentum 0.99": "LayerNorm"}),
        ({"norm": "instance"}, {"BatchNorm momentum 0.99": "InstanceNorm"}),
        ({"norm": "group", "norm_groups": 2}, {"BatchNorm momentum 0.99": "GroupNorm 2 groups"}),
        (
            {"block_dropout_kind": "channel"},
            {"0.1 of values": "0.1 of channels", "0.2 of values": "0.2 of channels"},
        ),
        (
            {"block_dropout_kind": "region", "block_dropout_region": 2},
            {"0.1 of values": "0.1 in squares of 2", "0.2 of values": "0.2 in squares of 2"},
        ),
    ],
)
def test_each_knob_changes_its_rows_and_no_other(fields, changes):
    expected = TABLE
    for old, new in changes.items():
        assert old in expected
        expected = expected.replace(old, new)
    assert table_of(convnet(**fields)) == expected.strip().splitlines()


@pytest.mark.parametrize(
    ("fields", "order"),
    [
        ({"norm_place": "after_pool"}, "conv1 activation1 pool norm dropout"),
        ({"norm_place": "before_activation"}, "conv1 norm1 activation1 pool dropout"),
        ({"norm_place": "after_activation"}, "conv1 activation1 norm1 pool dropout"),
        ({"dropout_place": "before_norm"}, "conv1 activation1 pool dropout norm"),
        ({"pool_kind": "conv"}, "conv1 activation1 pool/conv pool pool_activation norm dropout"),
    ],
)
def test_the_order_of_the_rows_is_that_of_the_computation(fields, order):
    rows = [row.path for row in models.layer_table(convnet(**fields), (8, 8, 1))]
    block = [row.removeprefix("block2/") for row in rows if row.startswith("block2/")]
    assert block == order.split()


RESIDUAL_TABLE = """
conv Conv 3x3 he_normal
norm BatchNorm momentum 0.9
activation Activation relu
stage1_block1/conv1 Conv 3x3 he_normal
stage1_block1/norm1 BatchNorm momentum 0.9
stage1_block1/activation1 Activation relu
stage1_block1/conv2 Conv 3x3 he_normal
stage1_block1/norm2 BatchNorm momentum 0.9
stage1_block1/activation2 Activation relu
stage1_block1 ResidualBlock shortcut projection
stage2_block1/conv1 Conv 3x3 /2 he_normal
stage2_block1/norm1 BatchNorm momentum 0.9
stage2_block1/activation1 Activation relu
stage2_block1/conv2 Conv 3x3 he_normal
stage2_block1/norm2 BatchNorm momentum 0.9
stage2_block1/projection Conv 1x1 /2 he_normal
stage2_block1/projection_norm BatchNorm momentum 0.9
stage2_block1/activation2 Activation relu
stage2_block1 ResidualBlock shortcut projection
head_input HeadInput average
output Dense he_normal
"""


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        ({}, {}),
        ({"activation": "elu"}, {"relu": "elu"}),
        ({"kernel_init": "orthogonal"}, {"he_normal": "orthogonal"}),
        (
            {"standardize_kernels": True},
            {
                f"{n}x{n}{step} he_normal": f"{n}x{n}{step} he_normal standardized"
                for n, step in ((3, ""), (3, " /2"), (1, " /2"))
            },
        ),
        ({"batch_norm_momentum": 0.75}, {"momentum 0.9": "momentum 0.75"}),
        ({"norm": "group", "norm_groups": 2}, {"BatchNorm momentum 0.9": "GroupNorm 2 groups"}),
        (
            {"branch_dropout": 0.3, "branch_dropout_kind": "channel"},
            {
                f"stage{n}_block1/conv2": f"stage{n}_block1/dropout Dropout 0.3 of channels\n"
                f"stage{n}_block1/conv2"
                for n in (1, 2)
            },
        ),
        (
            {"stochastic_depth": 0.1},
            {
                "stage1_block1/activation2": "stage1_block1/skip Dropout 0.05 of examples\n"
                "stage1_block1/activation2",
                "stage2_block1/projection Conv": "stage2_block1/skip Dropout 0.1 of examples\n"
                "stage2_block1/projection Conv",
            },
        ),
    ],
)
def test_each_knob_of_a_residual_network_changes_its_rows_and_no_other(fields, changes):
    expected = RESIDUAL_TABLE
    for old, new in changes.items():
        assert old in expected
        expected = expected.replace(old, new)
    small = {"stages": (1, 1), "filters": (4, 8), "shortcut": "projection"}
    assert table_of(models.ResNet(3, **small, **fields)) == expected.strip().splitlines()


@pytest.mark.parametrize(
    ("shortcut", "words"),
    [("pad", "shortcut pad"), ("projection", "shortcut projection"), ("none", "no shortcut")],
)
def test_a_residual_block_names_its_shortcut(shortcut, words):
    network = models.ResNet(3, stages=(1,), filters=(4,), shortcut=shortcut)
    assert f"stage1_block1 ResidualBlock {words}" in table_of(network)


def test_layers_of_flax_with_settings_of_their_own():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            x = nn.Conv(4, (3, 3), strides=(1, 2), kernel_init=nn.initializers.ones)(images)
            x = nn.Conv(4, (1, 5), kernel_init=INITIALIZERS["he_normal"])(x)
            x = nn.Conv(4, (3, 3), feature_group_count=2)(x)
            x = nn.GroupNorm(num_groups=None, group_size=2)(x)
            x = nn.Dropout(1 / 3, deterministic=not train)(x)
            x = nn.Dropout(0.5, broadcast_dims=(1, 2), deterministic=not train)(x)
            return nn.Dense(3)(x.mean((1, 2)))

    assert table_of(Own()) == [
        "Conv_0 Conv 3x3 /1x2",
        "Conv_1 Conv 1x5 he_normal",
        "Conv_2 Conv 3x3 2 groups",
        "GroupNorm_0 GroupNorm groups of 2",
        "Dropout_0 Dropout 0.333 of values",
        "Dropout_1 Dropout 0.5 of values, one for axes 1, 2",
        "Dense_0 Dense",
    ]


@pytest.mark.parametrize("name", ["alexnet_pool", "resnet20"])
def test_no_name_of_a_layer_is_cut_off_on_a_narrow_terminal(name):
    config = resolve_config(experiment_file(name, []), [])
    experiment = assemble(config, draw_dataset(config, config.train.batch_size))
    console = Console(width=80, file=io.StringIO())
    print_experiment(console, experiment, config, show=True)
    lines = console.file.getvalue().splitlines()
    first_words = {line.split()[0] for line in lines if line.strip()}
    assert {row.path for row in experiment.layers} <= first_words
