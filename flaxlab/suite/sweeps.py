"""Reads the option `--sweep` of `flaxlab.suite`."""

from __future__ import annotations

import re

from flaxlab.errors import UsageError


def parse_sweep(argument: str) -> tuple[str, list[str]]:
    """Returns the field and the values of "--sweep.FIELD=VALUE,VALUE,...".

    Commas inside brackets separate no values.

    Raises:
        UsageError: it is not of this form, has less than two values, or sweeps the seed.
    """
    found = re.fullmatch(r"--sweep\.([\w.]+)=(.+)", argument)
    if found is None:
        raise UsageError(
            f"{argument} is not a sweep; expected --sweep.FIELD=VALUE,VALUE,..., for example"
            " --sweep.optimizer.learning_rate=1e-2,1e-3"
        )
    values = _split_outside_brackets(found[2])
    if found[1] == "seed":
        raise UsageError("every arm has the same seeds; give their number by --seeds=N")
    if len(values) < 2 or not all(values):
        raise UsageError(f"{argument} does not have two or more values with commas between them")
    return found[1], values


def _split_outside_brackets(text: str) -> list[str]:
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
