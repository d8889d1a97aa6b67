"""AlexNet without batch normalization: what does it bring?

    python -m flaxlab.main --config=experiments/alexnet_no_batchnorm.py

Claim of the report: batch normalization helps a little (0.8596 with it).

The report: 0.8547 validation accuracy after 10 epochs, one run.
"""

from experiments import alexnet_default
from flaxlab.config import ConfigDict


def get_config() -> ConfigDict:
    config = alexnet_default.get_config()
    config.name = "alexnet_no_batchnorm"
    config.baseline = "alexnet_default"
    config.reported.final_accuracy = 0.8547
    config.model.batch_norm = False
    return config
