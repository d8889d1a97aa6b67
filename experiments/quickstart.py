"""`alexnet_pool` on scikit-learn's handwritten digits: the whole laboratory in three minutes.

    python -m flaxlab.main --config=experiments/quickstart.py

The data set is embedded: 1,437 training and 360 test images of 8x8, scaled up to 28x28.

Its values differ from the protocol for a reason that is a lesson in itself. An epoch has 45
steps of 32 images. Keras's batch normalization keeps 99% of its running statistics in each step:
after 90 steps they still hold 40% of what they started from, a variance of 1 where the
activations have a few thousandths. The network learns in training mode and fails in evaluation
mode. With momentum 0.9 the statistics settle within 60 steps, and with a learning rate of 1e-4
the activations do not run away from them.
"""

from experiments import alexnet_pool
from flaxlab.config import ConfigDict


def get_config() -> ConfigDict:
    config = alexnet_pool.get_config()
    config.baseline = "alexnet_pool"
    config.data.name = "digits"
    config.model.batch_norm_momentum = 0.9
    config.optimizer.learning_rate = 1e-4
    config.train.epochs = 3
    config.train.batch_size = 32
    return config
