"""Reads pickles that hold arrays and plain values, and nothing that could run."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from numpy._core.multiarray import _reconstruct  # rebuilds pickled arrays


def _encode_latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")


class ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain values; refuses every other class and function."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns what rebuilds arrays; raises `pickle.UnpicklingError` for anything else."""
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _encode_latin1,  # how Python 3 writes bytes for Python 2
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return allowed[module, name]
