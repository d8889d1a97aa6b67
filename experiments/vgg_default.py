"""VGG on CIFAR-10 as the lab report starts from it: the baseline of the VGG arms.

    python -m flaxlab.main --config=experiments/vgg_default.py

Five blocks of 3x3 convolutions, batch normalization after each pool, a ReLU head with dropout
0.5. 39,935,562 parameters.
"""

from flaxlab.config import ConfigDict, LabReport, default_config

LAB_REPORT = LabReport("cifar10", final_accuracy=0.8060)


def get_config() -> ConfigDict:
    config = default_config("vgg")
    config.data.name = "cifar10"
    return config
