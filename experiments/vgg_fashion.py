"""VGG on Fashion-MNIST: the network of `vgg_default` on the data of the AlexNet arms.

    python -m flaxlab.main --config=experiments/vgg_fashion.py

Claim of the report: it beats every AlexNet, with jumps between epochs. 33,642,954 parameters.

The report: 0.9141 validation accuracy after 10 epochs, one run.
"""

from experiments import vgg_default
from flaxlab.config import ConfigDict


def get_config() -> ConfigDict:
    config = vgg_default.get_config()
    config.name = "vgg_fashion"
    config.baseline = "vgg_default"
    config.reported.data = "fashion_mnist"
    config.reported.final_accuracy = 0.9141
    config.data.name = "fashion_mnist"
    config.data.image_shape = (28, 28, 1)
    return config
