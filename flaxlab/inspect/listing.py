"""Describes the contents of a checkpoint as rows, and prints rows as tables, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from flaxlab.checkpoints.find import Saved
from flaxlab.checkpoints.read import Leaf
from flaxlab.inspect.statistics import ArrayStatistics
from flaxlab.texts import count_text

Row = dict[str, Any]

# What a table lists last, and only on request: Adam's moments are twice as many arrays as the
# parameters, and few readers look for them.
_LAST = "opt_state"

_NUMBERS = ("mean", "std", "low", "high", "l2", "zeros")
_RANKS = {"params": 0, "batch_stats": 1, _LAST: 3, "all": 4}  # of collections; of others 2


def in_order(leaves: Iterable[Leaf]) -> list[Leaf]:
    """Returns parameters, then batch statistics, the rest, and the optimizer's state."""
    return sorted(leaves, key=lambda leaf: _RANKS.get(leaf.collection, 2))


def only_counted(leaves: Sequence[Leaf]) -> list[Leaf]:
    """Returns the leaves that a table only counts: the optimizer's, if there are parameters."""
    if not any(leaf.collection == "params" for leaf in leaves):
        return []
    return [leaf for leaf in leaves if leaf.collection == _LAST]


def not_listed(count: int, which: str) -> str:
    """Returns the line below a table that counts arrays of the optimizer, and says which."""
    return f"{_LAST}: {count_text(count, 'array')} {which} not listed; --all shows all"


def describe_saved(saved: Sequence[Saved], chosen: Saved) -> list[Row]:
    """Returns a row for each checkpoint: kind, step, bytes, metrics, and whether it is shown."""
    return [
        {
            "kind": each.kind,
            "step": each.step,
            "bytes": each.bytes,
            "shown": each == chosen,
            "metrics": each.metrics(),
        }
        for each in saved
    ]


def describe_leaf(leaf: Leaf, found: ArrayStatistics | None, flaws: Sequence[str]) -> Row:
    """Returns a row for a leaf, with its statistics if there are any."""
    row: Row = {
        "path": leaf.path,
        "shape": None if leaf.shape is None else list(leaf.shape),
        "dtype": leaf.dtype,
        "size": leaf.size,
        "bytes": leaf.nbytes,
    }
    if found is not None:
        row |= {key: getattr(found, key) for key in _NUMBERS}
        row |= {
            "nans": found.nans,
            "infinities": found.infinities,
            "histogram": list(found.histogram),
            "sparkline": found.sparkline(),
            "flaws": list(flaws),
        }
    return row


def totals(leaves: Sequence[Leaf]) -> list[Row]:
    """Returns a row for each collection, and one for all: numbers of arrays, values and bytes."""
    rows: dict[str, Row] = {}
    for leaf in leaves:
        for name in (leaf.collection, "all"):
            row = rows.setdefault(name, {"collection": name, "arrays": 0, "size": 0, "bytes": 0})
            row["arrays"] += leaf.shape is not None
            row["size"] += leaf.size
            row["bytes"] += leaf.nbytes
    return sorted(rows.values(), key=lambda row: _RANKS.get(row["collection"], 2))


def to_json(contents: dict[str, Any]) -> str:
    """Returns everything as JSON, with null for NaN and infinity."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(contents), indent=2, allow_nan=False)


def to_csv(rows: Sequence[Row]) -> str:
    """Returns rows as CSV, with shapes as "3x3x64" and spaces between the items of lists."""
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, columns or ["path"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        flat = {
            key: " ".join(map(str, value)) if isinstance(value, list) else value
            for key, value in row.items()
        }
        writer.writerow(flat | ({"shape": shape_text(row)} if "shape" in row else {}))
    return text.getvalue()


def print_tables(console: Console, contents: dict[str, Any], counted: Sequence[Leaf]) -> None:
    """Prints the checkpoints, the leaves, those that are only counted, and the totals."""
    _print_saved(console, contents["checkpoints"])
    leaves = contents["leaves"]
    with_statistics = any("mean" in row for row in leaves)
    table = _table("path", "shape", "dtype", "values", "bytes", numbers_from=3)
    if with_statistics:
        for name in ("mean", "std", "min", "max", "L2", "zeros"):
            table.add_column(name, justify="right")
        table.add_column("histogram")
        table.add_column("flaws", style="red")
    for row in leaves:
        path = f"{row['item']}: {row['path']}" if "item" in row else row["path"]
        cells = [
            path,
            shape_text(row),
            row["dtype"],
            f"{row['size']:,}",
            size(row["bytes"]),
        ]
        if "mean" in row:
            cells += [f"{row[key]:.3g}" for key in _NUMBERS[:-1]]
            cells += [f"{row['zeros']:.1%}", row["sparkline"], ", ".join(row["flaws"])]
        table.add_row(*cells)
    console.print(table)
    for row in totals(counted)[:1]:
        console.print(not_listed(row["arrays"], f"({size(row['bytes'])})"))
    table = _table("collection", "arrays", "values", "bytes", numbers_from=1)
    for row in contents["totals"]:
        table.add_row(row["collection"], str(row["arrays"]), f"{row['size']:,}", size(row["bytes"]))
    console.print(table)


def _print_saved(console: Console, rows: Sequence[Row]) -> None:
    metrics = list(dict.fromkeys(key for row in rows for key in row["metrics"]))
    table = _table("checkpoint", "step", "on disk", *metrics, numbers_from=1)
    # Of those that were the best when they were saved, only the last still is.
    earlier = [row for row in rows if row["kind"] == "best"][:-1]
    for row in rows:
        values = [row["metrics"].get(key) for key in metrics]
        kind = f"earlier {row['kind']}" if row in earlier else row["kind"]
        table.add_row(
            f"{kind}{' *' if row['shown'] and len(rows) > 1 else ''}",
            "" if row["step"] is None else str(row["step"]),
            size(row["bytes"]),
            *("" if value is None else f"{value:.4g}" for value in values),
        )
    console.print(table)
    if len(rows) > 1:
        console.print("* shown below", style="dim")


def _table(*titles: str, numbers_from: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if index >= numbers_from else "left")
    return table


def shape_text(row: Row) -> str:
    """Returns the shape in a row as "3x3x64"; "scalar" for (), "" if it is not an array."""
    if row["shape"] is None:
        return ""
    return "x".join(map(str, row["shape"])) or "scalar"


def size(count: float) -> str:
    """Returns a number of bytes with a unit, such as "1.5 MB"."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.2f} GB"
