"""Peer: the network and its training step in Keras; KERAS_BACKEND says on what."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from worker import Prepared, run_worker

NORMALIZES = {"batch": True, "none": False}


def build(job: dict[str, Any]) -> keras.Sequential:
    """Returns the network of `job["model"]`, a flaxlab model config."""
    model = job["model"]
    norm = {"epsilon": model["norm_epsilon"], "momentum": model["batch_norm_momentum"]}
    layers, pools = keras.layers, {"max": keras.layers.MaxPooling2D}
    pools["avg"] = layers.AveragePooling2D
    network = [keras.Input(job["image_shape"], dtype="uint8"), layers.Rescaling(1 / 255)]
    block_dropout = model["block_dropout"] or [0.0] * len(model["blocks"])
    for convs, (window, stride), rate in zip(
        model["blocks"], model["pools"], block_dropout, strict=True
    ):
        for filters, kernel in convs:
            padding = model["padding"].lower()
            network.append(layers.Conv2D(filters, kernel, padding=padding, activation="relu"))
        network.append(pools[model["pool_kind"]](window, stride))
        if NORMALIZES[model["norm"]]:
            network.append(layers.BatchNormalization(**norm))
        if rate:
            network.append(layers.Dropout(rate))
    network.append(layers.Flatten())
    head_dropout = model["head_dropout"] or [0.0] * len(model["head_units"])
    for units, rate in zip(model["head_units"], head_dropout, strict=True):
        network.append(layers.Dense(units, activation=model["head_activation"]))
        if NORMALIZES[model["head_norm"]]:
            network.append(layers.BatchNormalization(**norm))
        if rate:
            network.append(layers.Dropout(rate))
    network.append(layers.Dense(job["classes"]))
    return keras.Sequential(network)


def prepare(job: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> Prepared:
    """Returns the step; `job["variant"]` is "xla" (compiled by XLA) or "ops" (TensorFlow only)."""
    keras.utils.set_random_seed(0)
    network = build(job)
    rates = job["optimizer"]
    network.compile(
        keras.optimizers.Adam(
            rates["learning_rate"], rates["b1"], rates["b2"], epsilon=rates["epsilon"]
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=job["variant"] == "xla",
    )
    parameters = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    return Prepared(
        step=lambda: float(network.train_on_batch(images, labels)),
        parameters=parameters,
        version=f"Keras {keras.__version__} on {keras.backend.backend()}",
    )


if __name__ == "__main__":
    run_worker(prepare)
