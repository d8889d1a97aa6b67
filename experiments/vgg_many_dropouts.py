"""VGG with dropout 0.5 after every block's batch normalization.

    python -m flaxlab.main --config=experiments/vgg_many_dropouts.py

Claim of the report: so much of it hurts.
"""

from experiments import vgg_default
from flaxlab.config import ConfigDict, LabReport

LAB_REPORT = LabReport("cifar10", final_accuracy=0.6982, best_accuracy=0.7500)


def get_config() -> ConfigDict:
    config = vgg_default.get_config()
    config.baseline = "vgg_default"
    config.model.block_dropout = (0.5, 0.5, 0.5, 0.5, 0.5)
    return config
