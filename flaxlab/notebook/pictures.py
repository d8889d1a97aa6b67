"""Pictures that a notebook shows, and that a script can save."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass

from matplotlib.figure import Figure

from flaxlab.pages import style


@dataclass(frozen=True)
class Picture:
    """A picture that shows itself in a notebook, whether or not Matplotlib is set up there.

    Attributes:
        figure: the Matplotlib figure, to change or to save: `picture.figure.savefig("mine.pdf")`.
    """

    figure: Figure

    def _repr_png_(self) -> bytes:
        return style.png(self.figure)


def image(png: bytes, text: str) -> str:
    """Returns a PNG file as HTML that holds it; `text` says what it shows."""
    content = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{content}" alt="{html.escape(text)}">'
