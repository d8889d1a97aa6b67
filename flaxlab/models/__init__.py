"""Pure linen models. They know nothing of data, losses or training."""

from flaxlab.models.blocks import ConvBlock, DenseBlock
from flaxlab.models.convnet import VGG, AlexNet, ConvNet
from flaxlab.models.dropout import Dropout
from flaxlab.models.norm import Norm
from flaxlab.models.own import require_importable, require_logits, same_network
from flaxlab.models.pool import Pool
from flaxlab.models.registry import (
    MODELS,
    build,
    computed_by,
    find_model,
    is_own,
    knobs,
    name_of,
    source_file,
)
from flaxlab.models.resnet import ResNet
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
    "ResNet",
    "build",
    "computed_by",
    "count_parameters",
    "count_trainable",
    "find_model",
    "is_own",
    "knobs",
    "layer_table",
    "name_of",
    "require_importable",
    "require_logits",
    "same_network",
    "source_file",
    "trace_modules",
]
