"""AlexNet with padded convolutions and strided pools: the best AlexNet of the report.

    python -m flaxlab.main --config=experiments/alexnet_pool.py

Padding keeps the borders, strides shrink the image instead. 34,414,154 parameters.
"""

from experiments import alexnet_default
from flaxlab.config import ConfigDict, LabReport

LAB_REPORT = LabReport("fashion_mnist", final_accuracy=0.8734, best_accuracy=0.8955)


def get_config() -> ConfigDict:
    config = alexnet_default.get_config()
    config.baseline = "alexnet_default"
    config.model.padding = "SAME"
    config.model.pools = ((3, 2), (3, 2), (2, 2))
    return config
