"""AlexNet without batch normalization: what does it bring?

    python -m flaxlab.main --config=experiments/alexnet_no_batchnorm.py

Claim of the report: batch normalization helps a little.
"""

from experiments import alexnet_default
from flaxlab.config import ConfigDict, LabReport

LAB_REPORT = LabReport("fashion_mnist", final_accuracy=0.8547)


def get_config() -> ConfigDict:
    config = alexnet_default.get_config()
    config.baseline = "alexnet_default"
    config.model.norm = "none"
    return config
