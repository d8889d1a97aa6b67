"""AlexNet with L2 0.01 on the kernels, small dropouts after the blocks and a ReLU head.

    python -m flaxlab.main --config=experiments/alexnet_l2.py

The penalty is 0.01 * sum(w**2) over every convolution and hidden dense kernel, as Keras has it;
neither the output layer nor any bias is penalised. Claim of the report: it does not help.
"""

from experiments import alexnet_default
from flaxlab.config import ConfigDict, LabReport

LAB_REPORT = LabReport("fashion_mnist", final_accuracy=0.8075, best_accuracy=0.8454)


def get_config() -> ConfigDict:
    config = alexnet_default.get_config()
    config.baseline = "alexnet_default"
    config.loss.l2 = 0.01
    config.model.block_dropout = (0.1, 0.1, 0.4)
    config.model.head_activation = "relu"
    return config
