"""Renders the pages in `flaxlab/pages`: one file each, with its style and pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import jinja2


def render(template: str, pictures: Mapping[str, bytes], **values: Any) -> str:
    """Renders a page.

    Args:
        template: its file in `flaxlab/pages`.
        pictures: PNG files by name; the template sees them in base64.
        **values: what else the template names.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flaxlab", "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    encoded = {name: base64.b64encode(content).decode() for name, content in pictures.items()}
    return environment.get_template(template).render(pictures=encoded, **values)
