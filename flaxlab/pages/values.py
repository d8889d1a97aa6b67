"""Makes the points of a picture on a page say their values when the pointer rests on them.

An SVG `<title>` is a tooltip in every browser, and screen readers read it. PNG and PDF files of the
picture are the same without it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from markupsafe import escape
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_POINTS_PER_INCH = 72
# Radius of what a pointer has to meet, in points: half the way to the next one, within these.
_SMALLEST, _LARGEST = 1.5, 6.0


class Values(Artist):
    """What the points of a picture say; itself it draws nothing and takes no room.

    Attributes:
        points: in the coordinates of the data, (N, 2).
        texts: for each point.
    """

    def __init__(self, points: np.ndarray, texts: list[str]) -> None:
        """Keeps both."""
        super().__init__()
        self.points, self.texts = points, texts
        self.set_visible(False)
        self.set_in_layout(False)


def say(axes: Axes, x: Iterable[float], y: Iterable[float], texts: Iterable[str]) -> None:
    """Makes the points (x, y), in the coordinates of the data, say a text each."""
    points = np.array(list(zip(x, y, strict=True)), np.float64).reshape(-1, 2)
    axes.add_artist(Values(points, list(texts)))


def value_marks(figure: Figure) -> str:
    """Returns what `say` was told as elements of the figure's SVG; "" if that is nothing.

    Args:
        figure: it has been laid out, as it is once it has been rendered.
    """
    said: dict[tuple[float, float], list[str]] = {}
    for values in figure.findobj(Values):
        for place, text in zip(_places(figure, values), values.texts, strict=True):
            if np.isfinite(place).all():
                said.setdefault(place, []).append(text)
    if not said:
        return ""
    places = np.array(list(said))
    marks = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_radius(places, x, y):.1f}">'
        f"<title>{escape(chr(10).join(texts))}</title></circle>"
        for (x, y), texts in said.items()
    ]
    # Transparent, but met by the pointer.
    return f'<g class="values" fill="none" pointer-events="all">{"".join(marks)}</g>'


def _places(figure: Figure, values: Values) -> list[tuple[float, float]]:
    """Returns where the points are in the SVG, in tenths of its units, which are points."""
    assert values.axes is not None
    places = values.axes.transData.transform(values.points) * _POINTS_PER_INCH / figure.dpi
    places[:, 1] = figure.get_figheight() * _POINTS_PER_INCH - places[:, 1]  # SVG's y goes down
    return [(x, y) for x, y in places.round(1).tolist()]


def _radius(places: np.ndarray, x: float, y: float) -> float:
    gaps = np.hypot(places[:, 0] - x, places[:, 1] - y)
    nearest = gaps.min(initial=np.inf, where=gaps > 0)
    return float(np.clip(nearest / 2, _SMALLEST, _LARGEST))
