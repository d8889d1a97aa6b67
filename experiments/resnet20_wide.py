"""The residual network of 20 layers with four times the filters on CIFAR-10.

    python -m flaxlab.main --config=experiments/resnet20_wide.py

Width for depth, after Zagoruyko and Komodakis (2016), with dropout between the convolutions of a
block. 4,291,530 parameters.
"""

from experiments import resnet20
from flaxlab.config import ConfigDict


def get_config() -> ConfigDict:
    config = resnet20.get_config()
    config.baseline = "resnet20"
    config.model.filters = (64, 128, 256)
    config.model.branch_dropout = 0.3
    return config
