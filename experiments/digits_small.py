"""A small network on the digits as they are, 8x8 pixels: what the tutorial trains, in seconds.

    python -m flaxlab.main --config=experiments/digits_small.py

Every kind of layer of the lab report's networks once: two blocks of convolution, pooling and
batch normalization, and a tanh head with dropout. Momentum 0.9, since an epoch has 45 steps.
"""

from flaxlab.config import ConfigDict, default_config


def get_config() -> ConfigDict:
    config = default_config("alexnet")
    config.data.name = "digits"
    config.data.image_shape = (8, 8, 1)
    config.model.blocks = (((16, 3),), ((32, 3),))
    config.model.padding = "SAME"
    config.model.pools = ((2, 2), (2, 2))
    config.model.batch_norm_momentum = 0.9
    config.model.head_units = (64,)
    config.model.head_dropout = (0.5,)
    config.train.batch_size = 32
    config.train.epochs = 5
    config.checkpoint.epoch_seconds = 0.0  # keep each epoch, however short
    return config
