"""A wide residual network on CIFAR-10 with a recipe for accuracy.

    python -m flaxlab.main --config=experiments/strong_cifar.py

The network of `resnet20_wide`, with smoothed labels, squares cut out of its pictures, and one cycle
of the learning rate. What is scored is an average of the parameters, on each picture and on its
mirror image. The weight decay is that of Zagoruyko and Komodakis (2016).

To measure it by: the VGG-like network of airbench reaches 94% (Jordan, 2024, "94% on CIFAR-10 in
3.29 seconds on a single GPU"). This recipe has not been run to its end yet. 4,291,530 parameters.
"""

from experiments import resnet20_wide
from flaxlab.config import ConfigDict


def get_config() -> ConfigDict:
    config = resnet20_wide.get_config()
    config.baseline = "resnet20_wide"
    config.data.augment.cutout = 8
    config.data.test_flips = True
    config.loss.l2 = 2.5e-4  # half of the weight decay, which is that of the gradient
    config.loss.label_smoothing = 0.1
    config.optimizer.nesterov = True
    config.optimizer.schedule = "one_cycle"
    config.optimizer.warmup_epochs = 0.0  # the cycle has its own
    config.train.ema_decay = 0.999
    return config
