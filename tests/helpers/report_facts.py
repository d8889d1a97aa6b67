"""The thirteen networks of the lab report, written down in Keras by hand from its listings.

Nothing here is read from flaxlab: it is what flaxlab is compared with.
"""

from __future__ import annotations

import keras
from keras import layers, regularizers

# name: (parameters as Keras counts them, trainable ones, input shape)
PARAMETERS = {
    "alexnet_default": (26_549_834, 26_548_362, (28, 28, 1)),
    "alexnet_no_batchnorm": (26_546_890, 26_546_890, (28, 28, 1)),
    "alexnet_no_dropout": (26_549_834, 26_548_362, (28, 28, 1)),
    "alexnet_conv_dropout": (26_549_834, 26_548_362, (28, 28, 1)),
    "alexnet_l2": (26_549_834, 26_548_362, (28, 28, 1)),
    "alexnet_pool": (34_414_154, 34_412_682, (28, 28, 1)),
    "vgg_fashion": (33_642_954, 33_640_010, (28, 28, 1)),
    "vgg_default": (39_935_562, 39_932_618, (32, 32, 3)),
    "vgg_head_dropout04": (39_935_562, 39_932_618, (32, 32, 3)),
    "vgg_many_dropouts": (39_935_562, 39_932_618, (32, 32, 3)),
    "vgg_growing_dropouts": (39_935_562, 39_932_618, (32, 32, 3)),
    "vgg_no_batchnorm": (39_929_674, 39_929_674, (32, 32, 3)),
    "vgg_deep_head": (31_584_842, 31_563_466, (32, 32, 3)),
}

# name: (final, best) validation accuracy; None where the report states none.
ACCURACIES = {
    "alexnet_default": (0.8596, None),
    "alexnet_no_batchnorm": (0.8547, None),
    "alexnet_no_dropout": (0.8475, None),
    "alexnet_conv_dropout": (0.8217, 0.8638),
    "alexnet_l2": (0.8075, 0.8454),
    "alexnet_pool": (0.8734, 0.8955),
    "vgg_fashion": (0.9141, None),
    "vgg_default": (0.8060, None),
    "vgg_head_dropout04": (0.7900, 0.8062),
    "vgg_many_dropouts": (0.6982, 0.7500),
    "vgg_growing_dropouts": (0.8176, None),
    "vgg_no_batchnorm": (0.1, None),
    "vgg_deep_head": (None, None),
}

# name: dropout rates of the layers in the order of the network.
DROPOUTS = {
    "alexnet_default": [0.5, 0.5],
    "alexnet_no_batchnorm": [0.5, 0.5],
    "alexnet_no_dropout": [],
    "alexnet_conv_dropout": [0.25, 0.25, 0.25, 0.5, 0.5],
    "alexnet_l2": [0.1, 0.1, 0.4, 0.5, 0.5],
    "alexnet_pool": [0.5, 0.5],
    "vgg_fashion": [0.5, 0.5],
    "vgg_default": [0.5, 0.5],
    "vgg_head_dropout04": [0.4, 0.4],
    "vgg_many_dropouts": [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
    "vgg_growing_dropouts": [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5],
    "vgg_no_batchnorm": [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5],
    "vgg_deep_head": [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5],
}


def keras_model(name: str, dropout: bool = True) -> keras.Model:
    """Builds a network of the report with Keras, its softmax left out so that it gives logits.

    Args:
        name: as in `PARAMETERS`.
        dropout: whether to keep the dropout layers; without them training mode is deterministic.
    """
    keras.utils.set_random_seed(0)
    network = _alexnet(name) if name.startswith("alexnet") else _vgg(name)
    if not dropout:
        network = [layer for layer in network if not isinstance(layer, layers.Dropout)]
    return keras.Sequential([keras.Input(PARAMETERS[name][2]), *network])


def _alexnet(name: str) -> list[layers.Layer]:
    same = "same" if name == "alexnet_pool" else "valid"
    norm = name != "alexnet_no_batchnorm"
    l2 = regularizers.L2(0.01) if name == "alexnet_l2" else None
    after = {"alexnet_conv_dropout": [0.25] * 3, "alexnet_l2": [0.1, 0.1, 0.4]}.get(name)
    pools = [(3, 2), (3, 2), (2, 2)] if name == "alexnet_pool" else [(3, 1)] * 3
    activation = "relu" if name == "alexnet_l2" else "tanh"
    network: list[layers.Layer] = []
    for block, convs in enumerate(([(96, 11)], [(256, 5)], [(256, 3), (384, 3), (384, 3)])):
        for filters, kernel in convs:
            network.append(
                layers.Conv2D(
                    filters, kernel, padding=same, activation="relu", kernel_regularizer=l2
                )
            )
        network.append(layers.MaxPooling2D(*pools[block]))
        if norm:
            network.append(layers.BatchNormalization())
        if after:
            network.append(layers.Dropout(after[block]))
    network.append(layers.Flatten())
    for _ in range(2):
        network.append(layers.Dense(4096, activation=activation, kernel_regularizer=l2))
        if name != "alexnet_no_dropout":
            network.append(layers.Dropout(0.5))
    return [*network, layers.Dense(10)]


def _vgg(name: str) -> list[layers.Layer]:
    growing = ("vgg_growing_dropouts", "vgg_no_batchnorm", "vgg_deep_head")
    after = [0.1, 0.2, 0.3, 0.4, 0.5] if name in growing else None
    if name == "vgg_many_dropouts":
        after = [0.5] * 5
    network: list[layers.Layer] = []
    for block, (filters, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        for _ in range(count):
            network.append(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        network.append(layers.MaxPooling2D(2, 2 if block < 3 else 1))
        if name != "vgg_no_batchnorm":
            network.append(layers.BatchNormalization())
        if after:
            network.append(layers.Dropout(after[block]))
    network.append(layers.Flatten())
    for units in (4096, 1024, 4096) if name == "vgg_deep_head" else (4096, 4096):
        network.append(layers.Dense(units, activation="relu"))
        if name == "vgg_deep_head":
            network.append(layers.BatchNormalization())
        network.append(layers.Dropout(0.4 if name == "vgg_head_dropout04" else 0.5))
    return [*network, layers.Dense(10)]
