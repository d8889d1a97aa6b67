"""flaxlab: the ablation laboratory for convolutional networks in functional JAX."""

__version__ = "0.1.0"
