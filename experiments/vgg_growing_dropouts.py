"""VGG with dropout that grows with depth, from 0.1 to 0.5.

    python -m flaxlab.main --config=experiments/vgg_growing_dropouts.py

Claim of the report: the best VGG.
"""

from experiments import vgg_default
from flaxlab.config import ConfigDict, LabReport

LAB_REPORT = LabReport("cifar10", final_accuracy=0.8176)


def get_config() -> ConfigDict:
    config = vgg_default.get_config()
    config.baseline = "vgg_default"
    config.model.block_dropout = (0.1, 0.2, 0.3, 0.4, 0.5)
    return config
