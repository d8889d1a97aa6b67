"""A residual network of 20 layers on CIFAR-10, by the recipe of He et al. (2016) in fewer epochs.

    python -m flaxlab.main --config=experiments/resnet20.py

SGD with momentum, pictures shifted and flipped, weight decay 1e-4 as a penalty on the kernels. He
et al. train for 182 epochs with two steps of the learning rate; here it falls along a cosine in
30. 271,098 parameters.
"""

from flaxlab.config import ConfigDict, default_config


def get_config() -> ConfigDict:
    config = default_config("resnet")
    config.data.name = "cifar10"
    config.data.augment.flip = True
    config.data.augment.pad_and_crop = 4
    config.loss.l2 = 5e-5  # half of the weight decay, which is that of the gradient
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 1.0
    config.train.batch_size = 128
    config.train.epochs = 30
    return config
