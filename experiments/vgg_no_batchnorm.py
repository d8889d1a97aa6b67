"""VGG with growing dropouts and without batch normalization.

    python -m flaxlab.main --config=experiments/vgg_no_batchnorm.py

Claim of the report: it does not learn at all.
"""

from experiments import vgg_growing_dropouts
from flaxlab.config import ConfigDict, LabReport

LAB_REPORT = LabReport("cifar10", final_accuracy=0.1)


def get_config() -> ConfigDict:
    config = vgg_growing_dropouts.get_config()
    config.baseline = "vgg_growing_dropouts"
    config.model.norm = "none"
    return config
