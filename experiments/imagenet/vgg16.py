"""VGG-16 in its ImageNet form (Simonyan and Zisserman, 2015, configuration D).

    python -m flaxlab.main --config=experiments/imagenet/vgg16.py

Data, crops, penalty and schedule are those of `alexnet`. 138,357,544 parameters with 1000 classes.
"""

from experiments.imagenet import alexnet
from flaxlab.config import ConfigDict, default_config


def get_config() -> ConfigDict:
    config = alexnet.get_config()
    config.model.update(default_config("vgg").model)
    config.model.pools = ((2, 2),) * 5
    config.model.norm = "none"
    config.train.epochs = 74
    config.train.batch_size = 256
    return config
