"""A hook of MkDocs: the site has the pages of docs/ alone, so links to code become plain text."""

from __future__ import annotations

import re
from typing import Any

_TO_CODE = re.compile(
    r"\[([^\]]+)\]\((?:\.\./)+(?:flaxlab|experiments|tests|benchmarks|results)/[^)]*\)"
)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Returns the text of a page without links that lead out of docs/."""
    return _TO_CODE.sub(r"\1", markdown)
