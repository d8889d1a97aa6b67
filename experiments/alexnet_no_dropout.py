"""AlexNet without dropout in the head: does it memorize?

    python -m flaxlab.main --config=experiments/alexnet_no_dropout.py

Claim of the report: accuracy falls (0.8596 with dropout) and the gap between training and
validation grows.

The report: 0.8475 validation accuracy after 10 epochs, one run.
"""

from experiments import alexnet_default
from flaxlab.config import ConfigDict


def get_config() -> ConfigDict:
    config = alexnet_default.get_config()
    config.name = "alexnet_no_dropout"
    config.baseline = "alexnet_default"
    config.reported.final_accuracy = 0.8475
    config.model.head_dropout = (0.0, 0.0)
    return config
