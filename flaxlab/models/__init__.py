"""Pure linen models. They know nothing of data, losses or training."""

from flaxlab.models.blocks import ConvBlock, DenseBlock
from flaxlab.models.convnet import MODELS, VGG, AlexNet, ConvNet, build, knobs
from flaxlab.models.dropout import Dropout
from flaxlab.models.norm import Norm
from flaxlab.models.pool import Pool
from flaxlab.models.summary import (
    LayerRow,
    count_parameters,
    count_trainable,
    layer_table,
    trace_modules,
)

__all__ = [
    "MODELS",
    "VGG",
    "AlexNet",
    "ConvBlock",
    "ConvNet",
    "DenseBlock",
    "Dropout",
    "LayerRow",
    "Norm",
    "Pool",
    "build",
    "count_parameters",
    "count_trainable",
    "knobs",
    "layer_table",
    "trace_modules",
]
