"""VGG with dropout 0.4 in the head instead of 0.5.

python -m flaxlab.main --config=experiments/vgg_head_dropout04.py
"""

from experiments import vgg_default
from flaxlab.config import ConfigDict, LabReport

LAB_REPORT = LabReport("cifar10", final_accuracy=0.7900, best_accuracy=0.8062)


def get_config() -> ConfigDict:
    config = vgg_default.get_config()
    config.baseline = "vgg_default"
    config.model.head_dropout = (0.4, 0.4)
    return config
