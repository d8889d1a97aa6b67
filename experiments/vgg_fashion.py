"""VGG on Fashion-MNIST: the network of `vgg_default` on the data of the AlexNet arms.

    python -m flaxlab.main --config=experiments/vgg_fashion.py

Claim of the report: it beats every AlexNet, with jumps between epochs. 33,642,954 parameters.
"""

from experiments import vgg_default
from flaxlab.config import ConfigDict, LabReport

LAB_REPORT = LabReport("fashion_mnist", final_accuracy=0.9141)


def get_config() -> ConfigDict:
    config = vgg_default.get_config()
    config.baseline = "vgg_default"
    config.data.name = "fashion_mnist"
    return config
