"""Accuracies to draw by hypothesis, and how near to a share simulations of it must come."""

import numpy as np
from hypothesis import strategies as st

SIMULATIONS = 2000
accuracies = st.integers(0, 10_000).map(lambda correct: correct / 10_000)
samples = st.lists(accuracies, min_size=2, max_size=10)


def close_to_share(hits: int, share: float) -> bool:
    """Within four standard deviations of what a true share gives: 1 in 16,000 by chance."""
    return abs(hits / SIMULATIONS - share) < 4 * np.sqrt(share * (1 - share) / SIMULATIONS)


def strangers_arrays(train=60, test=25, shape=(9, 11), classes=5):
    """Images of an odd shape whose brightness tells their class, as anyone may have them."""
    rng = np.random.default_rng(0)

    def split(count):
        labels = rng.permutation(np.arange(count) % classes)
        noise = rng.integers(0, 40, (count, *shape))
        return (noise + labels[:, None, None] * 50).astype(np.uint8), labels

    return (*split(train), *split(test))
