"""AlexNet without dropout in the head: does it memorize?

    python -m flaxlab.main --config=experiments/alexnet_no_dropout.py

Claim of the report: accuracy falls and the gap between training and
validation grows.
"""

from experiments import alexnet_default
from flaxlab.config import ConfigDict, LabReport

LAB_REPORT = LabReport("fashion_mnist", final_accuracy=0.8475)


def get_config() -> ConfigDict:
    config = alexnet_default.get_config()
    config.baseline = "alexnet_default"
    config.model.head_dropout = (0.0, 0.0)
    return config
