"""Writes docs/knobs.md, a table of the knobs of each group of the config, from the code.

    python docs/update_knobs.py

What a knob does is said above or beside it in flaxlab/config/default.py, or in the docstring of
its network's class; what it may be is the text of its rule in flaxlab/config/. The tests check
that the page is what this file makes of them.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from flaxlab import models
from flaxlab.config import default, default_config
from flaxlab.config.rules import rules_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/knobs.md"

_INTRODUCTION = """\
# Every knob

<!-- Written by docs/update_knobs.py from the comments and docstrings of the code. -->

A knob is a field of the config. It can be set in four places:

| where | how |
|---|---|
| on the command line | `--config.model.head_dropout="(0.4, 0.4)"` |
| in an experiment's file | `config.model.head_dropout = (0.4, 0.4)` |
| in Python | `flaxlab.configure("alexnet_pool", **{"model.head_dropout": (0.4, 0.4)})` |
| in a suite of several values | `--sweep.optimizer.learning_rate=1e-2,1e-3` |

A knob whose default is `None` can be set back to it: `--config.data.train_examples=None`. A
[network of your own](own-network.md) has the fields of its class in place of those of flaxlab's
networks. `python -m flaxlab.main --config=FILE --show=config` prints what an experiment sets.
"""


def comments(source: str) -> dict[str, str]:
    """Returns {dotted path: comment} of the fields and groups of a config, in their order.

    Args:
        source: Python code with a function `default_config`. The comment of `config.PATH = ...` in
            it is that above, that beside it, or both.
    """
    texts: dict[int, str] = {}
    alone = set()  # lines that have nothing but their comment
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            texts[token.start[0]] = token.string.removeprefix("#").strip()
            if token.line.lstrip() == token.line[token.start[1] :]:
                alone.add(token.start[0])
    functions = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    body = next(node.body for node in functions if node.name == "default_config")
    found = {}
    for statement in body:
        target = ast.unparse(statement.targets[0]) if isinstance(statement, ast.Assign) else ""
        if target.startswith("config."):
            first = statement.lineno
            while first - 1 in alone:
                first -= 1
            lines = range(first, (statement.end_lineno or first) + 1)
            comment = " ".join(texts[line] for line in lines if line in texts)
            found[target.removeprefix("config.")] = comment
    return found


def attributes(docstring: str) -> dict[str, str]:
    """Returns {name: description} of the section "Attributes" of a docstring in Google's style."""
    section = inspect.cleandoc(docstring).partition("\nAttributes:\n")[2].split("\n\n")[0]
    entries = re.split(r"^    (\w+): ", section, flags=re.MULTILINE)[1:]
    return {
        name: " ".join(text.split()) for name, text in zip(entries[::2], entries[1::2], strict=True)
    }


def page() -> str:
    """Returns the text of docs/knobs.md."""
    return "\n".join([_INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    said, config = comments(inspect.getsource(default)), default_config()
    fields = [path for path in said if not isinstance(attrgetter(path)(config), ConfigDict)]
    for group in dict.fromkeys(path.rpartition(".")[0] for path in fields):
        inside = {path: said[path] for path in fields if path.rpartition(".")[0] == group}
        yield _section(
            group or "experiment", said.get(group, ""), _rows([config.model.name], inside)
        )
        if group == "model":
            yield from _networks()


def _networks() -> Iterator[str]:
    families: dict[type, list[str]] = {}
    for name, network in models.MODELS.items():
        documented = next(each for each in network.__mro__ if attributes(each.__doc__ or ""))
        families.setdefault(documented, []).append(name)
    for network, names in families.items():
        text = inspect.cleandoc(network.__doc__ or "")
        said = attributes(text)
        inside = {f"model.{field}": said.get(field, "") for field in models.knobs(names[0])}
        file = Path(inspect.getfile(network)).relative_to(ROOT)
        introduction = f"{text.splitlines()[0]} Source: [`{network.__name__}`](../{file})."
        yield _section(f"model: {', '.join(names)}", introduction, _rows(names, inside))


def _section(title: str, introduction: str, rows: Iterable[str]) -> str:
    head = "| knob | default | values | meaning |\n|---|---|---|---|\n"
    text = f"{_escaped(introduction)}\n\n" if introduction else ""
    return f"## {title}\n\n{text}{head}{''.join(rows)}"


def _rows(names: Sequence[str], said: Mapping[str, str]) -> Iterator[str]:
    """Yields a row for each {dotted path: description}, of the networks of these names."""
    configs, rules = [default_config(name) for name in names], rules_of(names[0])
    for path, text in said.items():
        values = [attrgetter(path)(config) for config in configs]
        group, _, field = path.rpartition(".")
        kind = (attrgetter(group)(configs[0]) if group else configs[0]).get_type(field).__name__
        rule = rules[path][1] if path in rules else "or None" if values[0] is None else ""
        known = (kind == "str" and path in rules) or kind in rule.split()
        takes = rule if known else f"{kind}, {rule}".removesuffix(", ")
        meaning = f"{text.removesuffix('.')}." if text else ""
        cells = (f"`{path}`", _default(names, values), _escaped(takes), _escaped(meaning))
        yield f"| {' | '.join(cells)} |\n"


def _default(names: Sequence[str], values: Sequence[Any]) -> str:
    shown = [
        f"`{value}`" if isinstance(value, str) and value else f"`{value!r}`" for value in values
    ]
    if len(set(shown)) == 1:
        return shown[0]
    return "; ".join(f"{name}: {value}" for name, value in zip(names, shown, strict=True))


def _escaped(text: str) -> str:
    """Returns text as Markdown for a table, in which only backticks have a meaning."""
    plain = re.sub(r"(`[^`]*`)|([*<>])", lambda found: found[1] or f"\\{found[2]}", text)
    return plain.replace("|", r"\|")


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
