"""A wide residual network on Fashion-MNIST with a recipe for accuracy.

    python -m flaxlab.main --config=experiments/strong_fashion.py

The network and the recipe of `strong_cifar`, with smaller shifts of the pictures.

To measure it by: the table of benchmarks in the README of the data set (Xiao et al., 2017,
https://github.com/zalandoresearch/fashion-mnist), which others have submitted, has 93.5% by VGG-16,
94.9% by ResNet-18 and 96.7% by a wide residual network of 40 layers. This recipe has not been run
to its end yet. 4,290,378 parameters.
"""

from experiments import strong_cifar
from flaxlab.config import ConfigDict


def get_config() -> ConfigDict:
    config = strong_cifar.get_config()
    config.baseline = "strong_cifar"
    config.data.name = "fashion_mnist"
    config.data.augment.pad_and_crop = 2
    return config
