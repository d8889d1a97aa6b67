"""Words for numbers, as messages and tables have them."""


def count_text(number: int, thing: str) -> str:
    """Returns a number of things: "1 seed", "2 seeds"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
