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
    marks = "".join(_marks(figure, each) for each in figure.findobj(Values))
    # Transparent, but met by the pointer.
    return marks and f'<g class="values" fill="none" pointer-events="all">{marks}</g>'


def _marks(figure: Figure, values: Values) -> str:
    assert values.axes is not None
    places = values.axes.transData.transform(values.points) * _POINTS_PER_INCH / figure.dpi
    places[:, 1] = figure.get_figheight() * _POINTS_PER_INCH - places[:, 1]  # SVG's y goes down
    said: dict[tuple[float, float], list[str]] = {}
    for (x, y), text in zip(places.round(1).tolist(), values.texts, strict=True):
        if np.isfinite((x, y)).all():
            said.setdefault((x, y), []).append(text)
    if not said:
        return ""
    found = np.array(list(said))
    gaps = np.hypot(*(found[:, None] - found).transpose(2, 0, 1))
    np.fill_diagonal(gaps, np.inf)
    radii = np.clip(gaps.min(axis=1) / 2, _SMALLEST, _LARGEST)
    return "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
        f"<title>{escape(chr(10).join(texts))}</title></circle>"
        for ((x, y), texts), radius in zip(said.items(), radii, strict=True)
    )
