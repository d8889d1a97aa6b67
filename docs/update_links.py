"""Points the code links of README and docs at the lines that define what they name.

    python docs/update_links.py

A code link is [`name`](path/to/file.py#L12): a function, class or constant of that file, or
`Class.method`. The tests check that every line is right, with the functions of this file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_CODE_LINK = re.compile(r"\[`([\w.]+)`\]\(([^)#\s]+\.py)#L(\d+)\)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def documents() -> list[Path]:
    """Lists what is read by people: Markdown and the chapters of the tutorial."""
    docs = ROOT / "docs"
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "benchmarks/README.md",
        *sorted(docs.rglob("*.md")),
        *sorted((docs / "tutorial").rglob("*.py")),
    ]


def relative_links(text: str) -> list[str]:
    """Lists the targets of links that lead to a file of this project, without their anchors."""
    targets = (target.split("#")[0] for target in _LINK.findall(text))
    return [target for target in targets if target and not re.match(r"\w+:", target)]


def definition_line(source: str, name: str) -> int:
    """Finds the line on which Python source defines `name`; "Class.method" looks inside.

    Raises:
        LookupError: it does not define it.
    """
    body: list[ast.stmt] = ast.parse(source).body
    for part in name.split("."):
        found = next((node for node in body if part in _defines(node)), None)
        if found is None:
            raise LookupError(f"{name} is not defined")
        body = getattr(found, "body", [])
    return found.lineno


def _defines(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    yield from (target.id for target in targets if isinstance(target, ast.Name))


def updated(text: str, folder: Path) -> str:
    """Returns the text of a document in `folder` with the line of each code link set right.

    Raises:
        LookupError: a file does not define what a link to it names; says which.
    """

    def with_line(link: re.Match[str]) -> str:
        name, path, _ = link.groups()
        try:
            line = definition_line((folder / path).read_text(), name)
        except LookupError as error:
            raise LookupError(f"{path}: {error}; it is linked by {link[0]}") from error
        return f"[`{name}`]({path}#L{line})"

    return _CODE_LINK.sub(with_line, text)


def main() -> None:
    """Rewrites the documents whose links have moved, and names them."""
    for document in documents():
        text = document.read_text()
        new = updated(text, document.parent)
        if new != text:
            document.write_text(new)
            print(f"updated {document.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
