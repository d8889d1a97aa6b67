"""VGG with batch normalization and without any dropout.

    python -m flaxlab.main --config=experiments/vgg_no_dropout.py

The lab report has no such run: it is a corner of the suite `batchnorm_dropout_2x2`.
"""

from experiments import vgg_growing_dropouts
from flaxlab.config import ConfigDict


def get_config() -> ConfigDict:
    config = vgg_growing_dropouts.get_config()
    config.baseline = "vgg_growing_dropouts"
    config.model.block_dropout = ()
    config.model.head_dropout = ()
    return config
