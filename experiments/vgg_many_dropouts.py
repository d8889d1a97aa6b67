"""VGG with dropout 0.5 after every block's batch normalization.

    python -m flaxlab.main --config=experiments/vgg_many_dropouts.py

Claim of the report: so much of it hurts.

The report: 0.6982 validation accuracy after 10 epochs, 0.7500 in the best one, one run.
"""

from experiments import vgg_default
from flaxlab.config import ConfigDict


def get_config() -> ConfigDict:
    config = vgg_default.get_config()
    config.name = "vgg_many_dropouts"
    config.baseline = "vgg_default"
    config.reported.final_accuracy = 0.6982
    config.reported.best_accuracy = 0.7500
    config.model.block_dropout = (0.5, 0.5, 0.5, 0.5, 0.5)
    return config
