"""Renders the pages in `flaxlab/pages`: one file each, with its style and pictures inside."""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup

_POINTS = 72 / 120  # of a pixel of PNG files, see `style.png`
_SMALLEST = 0.75  # that a picture is shown at: its letters must be read


def render(template: str, pictures: Mapping[str, str | bytes], **values: Any) -> str:
    """Renders a page.

    Args:
        template: its file in `flaxlab/pages`. It has the names of the pictures as `pictures`, and
            shows one by `picture(name, text)`.
        pictures: by name; elements of `style.svg`, or PNG files for what consists of pixels.
        **values: what else the template names.
    """
    page = _environment().get_template(template)
    return page.render(
        pictures=pictures, picture=lambda name, text: _picture(pictures[name], text), **values
    )


@functools.cache  # a suite renders a page for each of its runs
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("flaxlab", "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _picture(content: str | bytes, text: str) -> Markup:
    """Returns a picture in a box of its own, in which it scrolls where it is too wide."""
    if isinstance(content, str):
        width = float(content.split('"', 2)[1].removesuffix("pt"))  # its first attribute
        # What is inside an "img" is not read out.
        role = "group" if "<title>" in content else "img"
        shown = Markup('<svg role="{}" aria-label="{}" style="{}"').format(role, text, _size(width))
        return Markup('<div class="wide">{}{}</div>').format(shown, Markup(content[4:]))
    # The width is the first field of the file's header.
    size = _size(int.from_bytes(content[16:20], "big") * _POINTS)
    encoded = base64.b64encode(content).decode()
    return Markup(
        '<div class="wide raster"><img src="data:image/png;base64,{}" alt="{}" style="{}"></div>'
    ).format(encoded, text, size)


def _size(points: float) -> str:
    return f"width: {points:.0f}pt; min-width: {points * _SMALLEST:.0f}pt"
