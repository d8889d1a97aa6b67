"""Draws the packages of flaxlab and what imports what: docs/images/house.svg.

    python docs/draw_house.py

The imports are read from the code, with those inside functions and without those that only a type
checker follows. The tests hold the floors below, with the functions of this file.
"""

from __future__ import annotations

import ast
import html
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DRAWING = ROOT / "docs/images/house.svg"

# From the roof to the ground: a room imports rooms of lower floors only.
FLOORS = (
    ("ledger", "flaxlab"),
    ("notebook",),
    ("suite", "explain"),
    (
        *("main", "compare", "evaluate", "predict", "export"),
        *("inspect", "prepare", "rates", "data.__main__"),
    ),
    ("run",),
    ("checkpoints",),
    ("training",),
    ("batches",),
    ("data",),
    ("config",),
    ("kernels", "models", "pages"),
)
# Modules that any room may import; they import one another, and nothing else.
GROUND = (
    *("command_line", "processes", "machine", "hardware", "lock"),
    *("claims", "scores", "files", "user_code", "texts", "errors"),
)
_NOTES = {"flaxlab": "fit(), load()", "notebook": "runs and suites", "data.__main__": "the command"}
_FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(module: str) -> str:
    """Returns the room of a module: its package or, at the top level, its own name.

    The command of a package that other packages import is a room of its own: "data.__main__".
    """
    parts = module.split(".")
    if parts[0] != "flaxlab":
        return parts[0]
    if len(parts) == 1 or parts[1] == "__main__":
        return "flaxlab"
    return ".".join(parts[1:]) if ".".join(parts[1:]) in _FLOOR else parts[1]


def imports(package: Path = ROOT / "flaxlab") -> dict[tuple[str, str], set[str]]:
    """Returns {(importing room, imported room): names of the importing modules}."""
    found: dict[tuple[str, str], set[str]] = {}
    files = {_module(path, package.parent): path for path in package.rglob("*.py")}
    for module, path in sorted(files.items()):
        for target in _imported(ast.parse(path.read_text()), files):
            pair = (room_of(module), room_of(target))
            if target.split(".")[0] in ("flaxlab", "experiments") and pair[0] != pair[1]:
                found.setdefault(pair, set()).add(module)
    return found


def _module(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _imported(tree: ast.AST, modules: Iterable[str]) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module or ""
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from _imported(node, modules)


def main_arrows(pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Returns the pairs that lead down, without those that a longer way leads to as well."""
    down = {(a, b) for a, b in pairs if a in _FLOOR and b in _FLOOR and _FLOOR[a] < _FLOOR[b]}
    reached: dict[str, set[str]] = {}
    for room in sorted(_FLOOR, key=_FLOOR.__getitem__, reverse=True):
        below = {b for a, b in down if a == room}
        reached[room] = below.union(*(reached[b] for b in below))
    return {
        (a, b) for a, b in down if not any(b in reached[c] for d, c in down if d == a and c != b)
    }


@dataclass(frozen=True)
class Box:
    """A room on the drawing, in pixels from the upper left corner."""

    left: float
    top: float
    width: float
    height: float = 56

    @property
    def right(self) -> float:
        """Right edge."""
        return self.left + self.width

    @property
    def x(self) -> float:
        """Middle from left to right."""
        return self.left + self.width / 2

    @property
    def y(self) -> float:
        """Middle from top to bottom."""
        return self.top + self.height / 2

    @property
    def bottom(self) -> float:
        """Lower edge."""
        return self.top + self.height


_WIDTH, _MARGIN, _GAP, _STORY = 960, 20, 10, 88
_LINES = 2  # below the name in a box
_COMMANDS = 4  # floors of commands, from the roof down
_SPINE = (210, 570)  # left and right edge of the rooms between the commands and the models
# Boxes bring their own ground, and the grey of the arrows is read on white and on black.
_FILL, _EDGE, _INK, _GREY = "#e8eefb", "#5b7bc0", "#1d2740", "#7d899c"


def draw(pairs: Iterable[tuple[str, str]]) -> str:
    """Returns the drawing as SVG: a box for each room, and the arrows of `main_arrows`."""
    arrows = sorted(main_arrows(pairs), key=lambda pair: (_FLOOR[pair[0]], pair))
    boxes = _place(arrows)
    ground = Box(_MARGIN, _MARGIN + len(FLOORS) * _STORY, _WIDTH - 2 * _MARGIN)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {ground.bottom + _MARGIN}"'
        ' font-family="ui-sans-serif, system-ui, sans-serif" text-anchor="middle">',
        "<title>The rooms of flaxlab: each imports from those below it</title>",
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"'
        f' orient="auto"><path d="M0 0 8 4 0 8z" fill="{_GREY}"/></marker>',
        *(_arrow(boxes[a], boxes[b], _straight(a, b)) for a, b in arrows),
        *(_drawn(boxes[room], room.split(".")[0], purpose(room)) for room in _FLOOR),
        _drawn(ground, ", ".join(GROUND), "any room may import these modules"),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def purpose(room: str) -> str:
    """Returns the first line of the docstring of a room below the commands."""
    if _FLOOR[room] < _COMMANDS:
        return _NOTES.get(room, "")
    source = (ROOT / "flaxlab" / room / "__init__.py").read_text()
    return (ast.get_docstring(ast.parse(source)) or "").split("\n")[0]


def _place(arrows: Iterable[tuple[str, str]]) -> dict[str, Box]:
    left, right = _SPINE
    edges = [(_MARGIN, left - _GAP), (left, right), (right + _GAP, _WIDTH - _MARGIN)]
    boxes: dict[str, Box] = {}
    for floor in reversed(range(len(FLOORS))):
        top, rooms = _MARGIN + floor * _STORY, FLOORS[floor]
        if floor >= _COMMANDS:
            places = edges if len(rooms) == len(edges) else [_SPINE]
            for room, (start, end) in zip(rooms, places, strict=True):
                boxes[room] = Box(start, top, end - start)
            continue
        lowest = FLOORS[_COMMANDS - 1]
        width = (_WIDTH - 2 * _MARGIN - (len(lowest) - 1) * _GAP) / len(lowest)
        free = _MARGIN
        for room in rooms:
            # Above what it imports, where that is a command.
            below = [boxes[b].left for a, b in arrows if a == room and _FLOOR[b] < _COMMANDS]
            boxes[room] = Box(max([free, *below]), top, width)
            free = boxes[room].right + _GAP
    return boxes


def _straight(a: str, b: str) -> bool:
    """Returns whether nothing stands between two rooms: among commands, or one floor apart."""
    return _FLOOR[b] - _FLOOR[a] == 1 or _FLOOR[b] < _COMMANDS


def _arrow(a: Box, b: Box, straight: bool) -> str:
    left, right = _SPINE
    if straight:
        points = [(a.x, a.bottom), (min(max(a.x, b.left + 20), b.right - 20), b.top)]
    elif a.x > right:  # from a command beside the spine: down, then into its side
        points = [(a.x, a.bottom), (a.x, b.y - 12), (b.right, b.y - 12)]
    elif b.x < left:  # from the spine to a room beside it
        points = [(a.left, a.y + 12), (b.right - 40, a.y + 12), (b.right - 40, b.top)]
    elif b.x > right:
        points = [(a.right, a.y + 12), (b.left + 40, a.y + 12), (b.left + 40, b.top)]
    else:  # past the rooms between the two
        points = [(a.left, a.y), (left - 25, a.y), (left - 25, b.y), (b.left, b.y)]
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    style = f'fill="none" stroke="{_GREY}" stroke-width="1.5" marker-end="url(#head)"'
    return f'<polyline points="{path}" {style}/>'


def _drawn(box: Box, name: str, text: str) -> str:
    lines = textwrap.wrap(text, int(box.width / 6.6))
    if len(lines) > _LINES:
        raise ValueError(f"{text!r} does not fit into the box of {name}; say it in fewer words")
    size = f'x="{box.left:g}" y="{box.top:g}" width="{box.width:g}" height="{box.height:g}"'
    first = box.y + 4 - 7.5 * len(lines)
    words = [
        f'<text x="{box.x:g}" y="{first:g}" font-size="13" font-weight="600" fill="{_INK}">'
        f"{html.escape(name)}</text>"
    ]
    words += [
        f'<text x="{box.x:g}" y="{first + 15 * number:g}" font-size="11" fill="{_INK}">'
        f"{html.escape(line)}</text>"
        for number, line in enumerate(lines, 1)
    ]
    return f'<rect {size} rx="6" fill="{_FILL}" stroke="{_EDGE}"/>' + "".join(words)


if __name__ == "__main__":
    DRAWING.write_text(draw(imports()))
