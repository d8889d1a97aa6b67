"""VGG without batch normalization and without any dropout.

    python -m flaxlab.main --config=experiments/vgg_no_batchnorm_no_dropout.py

The lab report has no such run: it is a corner of the suite `batchnorm_dropout_2x2`.
"""

from experiments import vgg_no_dropout
from flaxlab.config import ConfigDict


def get_config() -> ConfigDict:
    config = vgg_no_dropout.get_config()
    config.model.norm = "none"
    return config
