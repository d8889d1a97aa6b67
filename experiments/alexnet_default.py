"""AlexNet on Fashion-MNIST as the lab report starts from it: the baseline of the AlexNet arms.

    python -m flaxlab.main --config=experiments/alexnet_default.py

Three convolution blocks without padding, 3x3 pools of stride 1, batch normalization after each
pool, and a tanh head with dropout 0.5. 26,549,834 parameters.
"""

from flaxlab.config import ConfigDict, LabReport, default_config

LAB_REPORT = LabReport("fashion_mnist", final_accuracy=0.8596)


def get_config() -> ConfigDict:
    config = default_config("alexnet")
    return config
