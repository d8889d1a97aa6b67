"""The rules that a value of a config can be held to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# What a value must be: a check, and the same in words.
Rule = tuple[Callable[[Any], bool], str]


def one_of(*values: Any) -> Rule:
    """Returns the rule that a value is one of these."""
    return lambda value: value in values, "one of " + ", ".join(map(str, values))


def at_least(bound: float) -> Rule:
    """Returns the rule that a number is finite and not below a bound."""
    return lambda value: bound <= value < float("inf"), f"at least {bound}"


def above(bound: float) -> Rule:
    """Returns the rule that a number is finite and above a bound."""
    return lambda value: bound < value < float("inf"), f"a number above {bound}"


def within(low: float, high: float) -> Rule:
    """Returns the rule that a number is at least `low` and below `high`."""
    return lambda value: low <= value < high, f"at least {low} and below {high}"


def optional(rule: Rule) -> Rule:
    """Returns the rule that a value is None or follows another rule."""
    check, text = rule
    return lambda value: value is None or check(value), f"{text}, or None"


def numbers(rule: Rule) -> Rule:
    """Returns the rule that a value is a tuple of numbers that each follow another rule."""
    check, text = rule
    return (
        lambda values: all(isinstance(value, int | float) and check(value) for value in values),
        f"a tuple of numbers, each {text}",
    )


def are_counts(values: Any) -> bool:
    """Returns whether a value is a tuple of whole numbers from 1."""
    return isinstance(values, tuple) and all(isinstance(n, int) and n >= 1 for n in values)


def are_pairs(values: Any) -> bool:
    """Returns whether a value is a tuple of pairs of whole numbers from 1."""
    return isinstance(values, tuple) and all(len(pair) == 2 and are_counts(pair) for pair in values)
