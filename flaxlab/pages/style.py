"""The one style of all pictures, and what a picture is rendered as: a file, or a part of a page.

Colours are from the palette of Okabe and Ito (2008), which people with colour-blindness can tell
apart; lines that share a picture differ in line style or marker as well.
"""

from __future__ import annotations

import io
import re
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from flaxlab.pages.values import value_marks

# As in page.css. In a picture that is part of a page they are the page's, light or dark.
INK, GREY, FAINT, BLUE = "#1d2733", "#5b6876", "#dfe5eb", "#0072b2"
_OF_THE_PAGE = {INK: "--ink", GREY: "--soft", FAINT: "--line", BLUE: "--blue"}

VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"

# Dots an inch of what has no other dots, as a matrix: so many that its cells have sharp edges.
_ON_A_PAGE, _ON_PAPER = 144, 300

STYLE: dict[Any, Any] = {
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "grid.color": FAINT,
    "legend.frameon": False,
    "figure.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "lines.markersize": 5,
}
# A decorator of functions that draw.
styled = rc_context(STYLE)


def png(figure: Figure) -> bytes:
    """Renders a figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def pdf(figure: Figure) -> bytes:
    """Renders a figure as a PDF file for a paper: the same bytes for the same figure."""
    buffer = io.BytesIO()
    # Some publishers refuse the outlines of letters that are matplotlib's default (Type 3).
    with rc_context({"pdf.fonttype": 42}):
        figure.savefig(buffer, format="pdf", dpi=_ON_PAPER, metadata={"CreationDate": None})
    return buffer.getvalue()


FORMS = {"png": png, "pdf": pdf}


def svg(figure: Figure, name: str) -> str:
    """Renders a figure as an element of a page: the same text for the same figure.

    Its text is text, in the page's letters and colours, and its points say their values, see
    `flaxlab.pages.values.say`.

    Args:
        figure: what to render.
        name: makes the ids of its parts differ from those of other pictures on the page.
    """
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(
            buffer, format="svg", dpi=_ON_A_PAGE, facecolor="none", metadata={"Date": None}
        )
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    # What the page says itself, and what HTML needs not to be told.
    text = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r" font-family: [^;\"]*;?", "", text)
    named = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in named else "", text)
    for color, variable in _OF_THE_PAGE.items():
        text = text.replace(color, f"var({variable})")
    text = re.sub(r"\n\s*(?=<)", "", text)
    return text.replace("</svg>", f"{value_marks(figure)}</svg>")


def keep_layout(figure: Figure) -> None:
    """Keeps a figure laid out as it was rendered last, so that it is quicker to render again."""
    # Not by the engine "none": with any engine, matplotlib draws a figure twice.
    with rc_context({"figure.constrained_layout.use": False, "figure.autolayout": False}):
        figure.set_layout_engine(None)


def over_epochs(axes: Axes, epochs: int) -> None:
    """Makes x an axis of `epochs` epochs, with whole numbers even where there is one alone."""
    axes.set_xlabel("epoch")
    axes.set_xlim(0.5, epochs + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def slant(axes: Axes) -> None:
    """Turns the names below x, which are too long to stand side by side."""
    axes.tick_params("x", rotation=45)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")


def frameless(axes: Axes) -> None:
    """Leaves out the frame of axes, as around images."""
    for spine in axes.spines.values():
        spine.set_visible(False)
