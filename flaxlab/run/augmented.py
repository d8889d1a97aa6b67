"""Images as a run stores them and as it trains on them, for its report."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from flaxlab.batches.augment import example_keys
from flaxlab.batches.order import gather, train_order
from flaxlab.training.experiment import Experiment, step_parts

_IMAGES = 10


def augmented_images(experiment: Experiment) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns ten training images, uint8 (N, H, W, C), before and after the augmentation.

    The images and what is drawn for them depend on the run's seed alone. None without augmentation.
    """
    config, split = experiment.config, experiment.splits.train
    augmentation = config.data.augment
    if not any(augmentation.values()):
        return None
    order = train_order(len(split), min(_IMAGES, len(split)), config.seed, epoch=1)
    stored = read = next(gather(split, order))
    if augmentation.random_resized_crop:
        from flaxlab.batches.grain import read_batches  # takes a second to import

        crop = augmentation.random_resized_crop
        read = next(read_batches(split, order, 0, slice(None), config.seed, 1, crop, workers=0))
    parts = step_parts(config, len(experiment.dataset.class_names))

    @jax.jit
    def change(key: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
        if parts["augment"] is not None:
            images = parts["augment"](example_keys(key, len(images)), images)
        if augmentation.mixup:
            images, _ = parts["soften"](key, images.astype(jnp.float32), labels)
        return images

    changed = change(jax.random.key(config.seed), read["image"], read["label"])
    return stored["image"], np.rint(changed).astype(np.uint8)
