r"""AlexNet in its ImageNet form (Krizhevsky, Sutskever and Hinton, 2012), in one tower.

    python -m flaxlab.main --config=experiments/imagenet/alexnet.py
    python -m flaxlab.main --config=experiments/imagenet/alexnet.py --config.data.name=folder \
        --config.data.folder=DIR

The first needs `imagenet2012` prepared by TFDS as ArrayRecord files, the second DIR/train and
DIR/test with a folder for each class. 62,378,344 parameters with 1000 classes. Unlike in the
paper: no local response normalization, no groups in the convolutions (the paper cut the network
between two GPUs), and the random crops of Szegedy et al. (2015). The paper's weight decay of 5e-4
is the penalty l2 = 2.5e-4, on every kernel but the output layer's.
"""

from flaxlab.config import ConfigDict, default_config


def get_config() -> ConfigDict:
    config = default_config("alexnet")
    config.data.name = "tfds:imagenet2012"
    config.data.image_shape = (224, 224, 3)
    config.data.scaling = "symmetric"
    config.data.augment.random_resized_crop = 0.08
    config.data.augment.flip = True
    config.model.blocks = (((96, 11),), ((256, 5),), ((384, 3), (384, 3), (256, 3)))
    config.model.strides = (4, 1, 1)
    config.model.padding = "SAME"
    config.model.pools = ((3, 2), (3, 2), (3, 2))
    config.model.norm = "none"
    config.model.head_activation = "relu"
    config.loss.l2 = 2.5e-4
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.01
    config.optimizer.schedule = "step"
    config.optimizer.step_epochs = 30.0
    config.train.epochs = 90
    config.train.batch_size = 128
    return config
