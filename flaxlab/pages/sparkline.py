"""A curve as small as a word, for a table."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

_WIDTH, _HEIGHT, _MARGIN = 120, 28, 3  # of the element, in pixels


def sparkline(values: Sequence[float], low: float, high: float, steps: int, text: str) -> Markup:
    """Returns a line through values as an SVG element, with a dot at the last one.

    Args:
        values: one a step, at least one; finite.
        low: value at the bottom.
        high: value at the top.
        steps: number of steps from the left edge to the right one; a shorter curve ends before.
        text: what it shows, for those who cannot see it.
    """
    across = (_WIDTH - 2 * _MARGIN) / max(steps - 1, 1)
    up = (_HEIGHT - 2 * _MARGIN) / ((high - low) or 1.0)
    points = [
        (_MARGIN + step * across, _HEIGHT - _MARGIN - (value - low) * up)
        for step, value in enumerate(values)
    ]
    x, y = points[-1]
    return Markup(
        '<svg role="img" aria-label="{}" class="sparkline" width="{}" height="{}">'
        '<polyline points="{}"/><circle cx="{:.1f}" cy="{:.1f}" r="2.2"/></svg>'
    ).format(text, _WIDTH, _HEIGHT, " ".join(f"{x:.1f},{y:.1f}" for x, y in points), x, y)
