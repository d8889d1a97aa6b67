"""AlexNet with dropout 0.25 after the batch normalization of each block.

    python -m flaxlab.main --config=experiments/alexnet_conv_dropout.py

Claim of the report: convergence slows down; the best epoch is higher, the last one unstable.
"""

from experiments import alexnet_default
from flaxlab.config import ConfigDict, LabReport

LAB_REPORT = LabReport("fashion_mnist", final_accuracy=0.8217, best_accuracy=0.8638)


def get_config() -> ConfigDict:
    config = alexnet_default.get_config()
    config.baseline = "alexnet_default"
    config.model.block_dropout = (0.25, 0.25, 0.25)
    return config
