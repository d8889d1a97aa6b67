"""VGG with growing dropouts and without batch normalization.

    python -m flaxlab.main --config=experiments/vgg_no_batchnorm.py

Claim of the report: it does not learn at all.

The report: 0.1 validation accuracy after 10 epochs (chance), one run.
"""

from experiments import vgg_growing_dropouts
from flaxlab.config import ConfigDict


def get_config() -> ConfigDict:
    config = vgg_growing_dropouts.get_config()
    config.name = "vgg_no_batchnorm"
    config.baseline = "vgg_growing_dropouts"
    config.reported.final_accuracy = 0.1
    config.model.batch_norm = False
    return config
