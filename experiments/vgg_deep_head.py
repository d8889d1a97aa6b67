"""VGG with growing dropouts and a head of three layers, each with batch normalization.

    python -m flaxlab.main --config=experiments/vgg_deep_head.py

31,584,842 parameters.

The lab report has this network and does not state its accuracy.
"""

from experiments import vgg_growing_dropouts
from flaxlab.config import ConfigDict


def get_config() -> ConfigDict:
    config = vgg_growing_dropouts.get_config()
    config.baseline = "vgg_growing_dropouts"
    config.model.head_units = (4096, 1024, 4096)
    config.model.head_norm = "batch"
    config.model.head_dropout = (0.5, 0.5, 0.5)
    return config
