"""Sets how precisely products and convolutions of float32 are computed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax

Function = TypeVar("Function", bound=Callable[..., Any])


def with_precision(function: Function, precision: str) -> Function:
    """Returns a function whose float32 products and convolutions have at least this precision.

    Args:
        function: of arrays, such as a training or evaluation step.
        precision: "default", which on a recent GPU is TensorFloat-32: float32's range, with factors
            rounded to 10 bits; "tensorfloat32"; or "float32". CPUs compute in float32 anyway.
    """
    if precision == "default":
        return function

    @functools.wraps(function)
    def precise(*arguments: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return function(*arguments)

    return cast(Function, precise)
