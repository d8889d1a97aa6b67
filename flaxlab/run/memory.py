"""Explains out-of-memory errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax
from ml_collections import ConfigDict

from flaxlab.errors import RunFailed

# In messages of XLA, CUDA, cuBLAS and cuDNN. The last two need memory of their own, and report what
# is left for them as an internal error.
_OUT_OF_MEMORY = (
    "RESOURCE_EXHAUSTED",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)


@contextlib.contextmanager
def explain_out_of_memory(config: ConfigDict) -> Iterator[None]:
    """Turns a lack of memory inside the block into a `RunFailed` that says what to try."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        known = isinstance(error, MemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)
        if not known:
            raise
        smaller = max(config.train.batch_size // 2, 1)
        tries = [f"--config.train.batch_size={smaller}", "--config.model.dtype=bfloat16"]
        if config.data.placement not in ("streamed", "grain"):
            tries.append("--config.data.placement=streamed")
        raise RunFailed(
            f"out of memory with batches of {config.train.batch_size}"
            f" ({' '.join(str(error).split())[:160]}); try {', '.join(tries)}"
        ) from error
