"""What a layer is set to, in a few words: what neither its class, shape nor parameters show."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn

from flaxlab.models.blocks import INITIALIZERS, Activation, HeadInput
from flaxlab.models.dropout import Dropout
from flaxlab.models.norm import Standardized
from flaxlab.models.pool import Pool
from flaxlab.models.resnet import ResidualBlock


def settings_of(module: nn.Module) -> str:
    """Returns the settings of a layer, such as "3x3 /2 he_normal"; "" where there are none to name.

    A window is given in pixels, a stride other than 1 after a slash. Initial values are named if
    they are among `flaxlab.models.blocks.INITIALIZERS`.
    """
    match module:
        case nn.Conv():
            standardized = isinstance(module.conv_general_dilated, Standardized)
            groups = module.feature_group_count
            marks = (
                _window(module.kernel_size, module.strides),
                f"{groups} groups" if groups > 1 else "",
                _initializer(module),
                "standardized" if standardized else "",
            )
            return " ".join(filter(None, marks))
        case nn.Dense():
            return _initializer(module)
        case nn.BatchNorm():
            return f"momentum {module.momentum:g}"
        case nn.GroupNorm():
            number, size = module.num_groups, module.group_size
            return f"{number} groups" if number else f"groups of {size}"
        case Activation() | HeadInput():
            return module.kind
        case Pool():
            return f"{module.kind} {_window((module.window,) * 2, module.stride)}"
        case Dropout():
            whole = {"element": "of values", "region": f"in squares of {module.region}"}
            return f"{module.rate:.3g} {whole.get(module.kind, f'of {module.kind}s')}"
        case nn.Dropout():
            shared = ", ".join(map(str, module.broadcast_dims))
            return f"{module.rate:.3g} of values{f', one for axes {shared}' if shared else ''}"
        case ResidualBlock():
            return "no shortcut" if module.shortcut == "none" else f"shortcut {module.shortcut}"
    return ""


def _window(sides: int | Sequence[int], strides: int | Sequence[int] | None) -> str:
    """Writes a window and its stride, such as "3x3 /2"."""
    window = _by(sides)
    step = "1" if strides is None else _by(strides)
    return window if set(step.split("x")) == {"1"} else f"{window} /{step}"


def _by(sides: int | Sequence[int]) -> str:
    return "x".join(map(str, (sides,) if isinstance(sides, int) else sides))


def _initializer(module: nn.Conv | nn.Dense) -> str:
    return next((name for name, init in INITIALIZERS.items() if init is module.kernel_init), "")
