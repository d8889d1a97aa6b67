"""AlexNet on Fashion-MNIST as the lab report starts from it: the baseline of the AlexNet arms.

    python -m flaxlab.main --config=experiments/alexnet_default.py

Three convolution blocks without padding, 3x3 pools of stride 1, batch normalization after each
pool, and a tanh head with dropout 0.5. 26,549,834 parameters.

The report: 0.8596 validation accuracy after 10 epochs, one run.
"""

from flaxlab.config import ConfigDict, default_config


def get_config() -> ConfigDict:
    config = default_config("alexnet")
    config.name = config.baseline = "alexnet_default"
    config.reported.data = "fashion_mnist"
    config.reported.final_accuracy = 0.8596
    return config
