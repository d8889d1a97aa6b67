"""Pages, tables and links as HTML, which notebooks show."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PAGE_HEIGHT = 600  # pixels


@dataclass(frozen=True)
class Page:
    """A page that a run or a comparison has written; a notebook shows all of it in a frame.

    Attributes:
        path: its file, which needs no other.
    """

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        content = html.escape(self.path.read_text(), quote=True)
        return f'{link(self.path)}<iframe srcdoc="{content}" {_FRAME}></iframe>'


_FRAME = f'style="width: 100%; height: {_PAGE_HEIGHT}px; border: 1px solid #8888"'


def link(path: Path) -> str:
    """Returns a link to a file, as HTML."""
    return f'<p><a href="{html.escape(path.as_posix())}">{html.escape(str(path))}</a></p>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table as HTML."""
    head = "".join(f"<th>{html.escape(title)}</th>" for title in header)
    lines = ("".join(f"<td>{html.escape(text)}</td>" for text in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def facts(values: Mapping[str, str]) -> str:
    """Returns names and values as an HTML table of two columns."""
    rows = (
        f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in values.items()
    )
    return f"<table>{''.join(rows)}</table>"
