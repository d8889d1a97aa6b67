"""Makes the arms of a suite from lists of differences.

Each arm is the baseline with some fields changed, so that no file has to be written for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flaxlab.errors import UsageError

# {name of a difference: {field: (value without it, value with it)}}
Differences = Mapping[str, Mapping[str, tuple[Any, Any]]]


@dataclass(frozen=True)
class Variant:
    """An arm that is an experiment with some fields changed.

    Attributes:
        name: name of the arm.
        changes: {field: value}, for example {"model.norm": "group"}.
        of: name of the experiment; "" for the suite's baseline.
        from_: {field: value} that the baseline must have, so that the arm means what its design
            says.
    """

    name: str
    changes: Mapping[str, Any]
    of: str = ""
    from_: Mapping[str, Any] = field(default_factory=dict)


class Factorial(NamedTuple):
    """The arms of a factorial design, and which of them make each change.

    Attributes:
        arms: all but the baseline, which makes no change.
        factors: {change: names of the arms that make it}, for `Suite.factors`.
    """

    arms: tuple[Variant, ...]
    factors: dict[str, tuple[str, ...]]


def factorial(
    changes: Mapping[str, tuple[Any, Any]], generators: Mapping[str, Sequence[str]] | None = None
) -> Factorial:
    """Returns an arm for each combination of changes, or for a fraction of them.

    In a fraction, whether some changes are made follows from the others: with four changes and
    `generators={"d": ("a", "b", "c")}`, d is made where an odd number of a, b and c is, so that
    eight arms stand in for sixteen; the effect of d is then aliased with the interaction of the
    three (Box, Hunter and Hunter, "Statistics for Experimenters", 2005, chapter 6).

    Args:
        changes: {field: (the baseline's value, the other value)}.
        generators: {field: the fields whose number decides whether it changes}; None: all
            combinations.

    Raises:
        UsageError: there are fewer than two changes, not two values of each, or a generator is not
            one of the changes.
    """
    generators = generators or {}
    _require_pairs({"the factorial": changes})
    free = [path for path in changes if path not in generators]
    strangers = {*generators, *itertools.chain(*generators.values())} - changes.keys()
    if strangers or any(set(of) - set(free) or len(of) < 2 for of in generators.values()):
        raise UsageError(
            f"the generators are {dict(generators)!r}; expected {{field: two or more fields that"
            f" have no generator}}, all among {', '.join(changes)}"
        )
    if len(free) < 2:
        raise UsageError("a factorial has two or more changes that do not follow from others")
    short = shortest(list(changes))
    arms: list[Variant] = []
    factors: dict[str, tuple[str, ...]] = {}
    for made in itertools.product((False, True), repeat=len(free)):
        makes = dict(zip(free, made, strict=True))
        makes |= {path: sum(makes[each] for each in of) % 2 == 1 for path, of in generators.items()}
        names = [f"{short[path]}={changes[path][1]}" for path in changes if makes[path]]
        if names:
            arms.append(
                Variant(
                    name=" ".join(names),
                    changes={path: changes[path][1] for path in changes if makes[path]},
                    from_={path: values[0] for path, values in changes.items()},
                )
            )
    for path, values in changes.items():
        change = f"{short[path]}={values[1]}"
        factors[change] = tuple(arm.name for arm in arms if path in arm.changes)
    return Factorial(tuple(arms), factors)


def add_one_in(to: Differences) -> tuple[Variant, ...]:
    """Returns an arm for each difference, which the baseline lacks and the arm has.

    Args:
        to: the differences: {"shortcuts": {"model.shortcut": ("none", "pad")}}.

    Raises:
        UsageError: a difference has no fields, or not two values of a field.
    """
    return _one_at_a_time(to, "with", before=0)


def leave_one_out(of: Differences) -> tuple[Variant, ...]:
    """Returns an arm for each difference, which the baseline has and the arm lacks.

    Args:
        of: see `add_one_in`.

    Raises:
        UsageError: see `add_one_in`.
    """
    return _one_at_a_time(of, "without", before=1)


def _one_at_a_time(differences: Differences, word: str, before: int) -> tuple[Variant, ...]:
    _require_pairs(differences)
    return tuple(
        Variant(
            name=f"{word} {name}",
            changes={path: values[1 - before] for path, values in changed.items()},
            from_={path: values[before] for path, values in changed.items()},
        )
        for name, changed in differences.items()
    )


def sweep(path: str, values: Sequence[Any]) -> tuple[Variant, ...]:
    """Returns an arm for each value of a field; the baseline's own value is not among them.

    Args:
        path: the field, for example "optimizer.learning_rate".
        values: the values, in the order of the arms.
    """
    short = path.rsplit(".", 1)[-1]
    return tuple(Variant(f"{short}={value}", {path: value}) for value in values)


def shortest(paths: Sequence[str]) -> dict[str, str]:
    """Maps each path to its last part, or to itself if another path has the same last part."""
    last = [path.rsplit(".", 1)[-1] for path in paths]
    return {
        path: part if last.count(part) == 1 else path
        for path, part in zip(paths, last, strict=True)
    }


def _require_pairs(differences: Differences) -> None:
    for name, changed in differences.items():
        if not isinstance(changed, Mapping) or not changed:
            raise UsageError(
                f"{name} is {changed!r}; expected the fields that it changes:"
                " {field: (value without it, value with it)}"
            )
        for path, values in changed.items():
            if not isinstance(values, tuple) or len(values) != 2 or values[0] == values[1]:
                raise UsageError(
                    f"{name} has {values!r} for {path}; expected a tuple of two values, the one"
                    " without the change and the one with it"
                )
