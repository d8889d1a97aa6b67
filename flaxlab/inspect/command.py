"""Lists, describes, verifies, compares and draws checkpoints for `flaxlab.inspect`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from flaxlab import config as configs
from flaxlab import files
from flaxlab.checkpoints.find import Saved, choose, find_saved, require_intact
from flaxlab.checkpoints.manifest import NAME as MANIFEST
from flaxlab.checkpoints.manifest import find_damage
from flaxlab.checkpoints.read import Leaf, list_leaves, read_leaves, read_pieces
from flaxlab.command_line import open_console
from flaxlab.errors import UsageError
from flaxlab.inspect import listing
from flaxlab.inspect.difference import config_changes, structure_changes, value_changes
from flaxlab.inspect.statistics import ArrayStatistics, describe_array, describe_pieces, find_flaws

Keep = Callable[[Leaf], bool]


def matching(pattern: str | None) -> Keep:
    """Returns a function that checks whether a leaf's path matches; without a pattern, all do.

    Raises:
        UsageError: the pattern is not a regular expression.
    """
    try:
        compiled = re.compile(pattern or "")
    except re.error as error:
        raise UsageError(f"--filter={pattern} is not a regular expression ({error})") from error
    return lambda leaf: compiled.search(leaf.path) is not None


def show(
    path: Path, step: str, keep: Keep, form: str, with_statistics: bool, everything: bool
) -> None:
    """Prints the checkpoints at `path` and the contents of one of them.

    Args:
        path: see `find_saved`.
        step: see `choose`.
        keep: whether to list a leaf.
        form: "table", "json" or "csv".
        with_statistics: read the arrays, at most one at a time, and describe their values.
        everything: list all leaves; else those of `listing.only_counted` are neither read nor
            listed, but are in the totals.

    Raises:
        UsageError: there is no checkpoint, it is damaged, or no array matches.
    """
    saved = find_saved(path)
    chosen = choose(saved, step)
    if with_statistics:
        require_intact(chosen)
    found = {
        item: [leaf for leaf in list_leaves(tree) if keep(leaf)]
        for item, tree in chosen.trees.items()
    }
    leaves = [leaf for inside in found.values() for leaf in inside]
    if not leaves:
        raise UsageError(f"--filter matches no array in {chosen.folder}; leave it out to see all")
    counted = [] if everything else listing.only_counted(leaves)
    left_out = set(counted)
    rows = [
        {"item": item, **row} if len(found) > 1 else row
        for item, inside in found.items()
        for row in _rows(
            chosen.trees[item], [leaf for leaf in inside if leaf not in left_out], with_statistics
        )
    ]
    record = chosen.record() or {}
    contents = {
        "folder": str(chosen.folder),
        "checkpoints": listing.describe_saved(saved, chosen),
        "config": record.get("config"),
        "dataset": record.get("dataset"),
        "versions": record.get("versions"),
        "leaves": rows,
        "totals": listing.totals(leaves),
    }
    if form == "json":
        print(listing.to_json(contents))
    elif form == "csv":
        print(listing.to_csv(rows), end="")
    else:
        console = open_console(highlight=False, markup=False)
        console.print(f"{chosen.folder}", soft_wrap=True)
        if "config" in record and "dataset" in record:
            config, title = record["config"], record["dataset"]["title"]
            line = f"{config['name']} on {title}, seed {config['seed']}"
            console.print(line)
        listing.print_tables(console, contents, counted)


def _rows(tree: Path, leaves: Sequence[Leaf], with_statistics: bool) -> list[listing.Row]:
    found = {}
    if with_statistics:
        for leaf, pieces in read_pieces(tree, leaves):
            found[leaf] = describe_pieces(pieces)
    rows = []
    for leaf in listing.in_order(leaves):
        statistics = found.get(leaf)
        flaws = find_flaws(leaf, statistics) if statistics else []
        rows.append(listing.describe_leaf(leaf, statistics, flaws))
    return rows


def verify(path: Path) -> None:
    """Checks the manifest of every checkpoint at `path`.

    Raises:
        UsageError: files are damaged, or a checkpoint of flaxlab has lost its manifest.
    """
    console = open_console(highlight=False, markup=False)
    damaged, unknown = [], []
    for saved in find_saved(path):
        found = find_damage(saved.folder)
        if not saved.trees:
            found = found or ["its metadata is missing"]
        if found is None and _of_flaxlab(saved):
            unknown.append(str(saved.folder))
            verdict = f"{MANIFEST} is missing: the files may be damaged"
        elif found is None:
            verdict = "no manifest: not written by flaxlab"
        else:
            verdict = "; ".join(found) or "intact"
        if found:
            damaged.append(str(saved.folder))
        console.print(f"{saved.folder}: {verdict}", soft_wrap=True)
    problems = []
    if damaged:
        problems.append(f"{len(damaged)} damaged: {', '.join(damaged)}; use another step")
    if unknown:
        problems.append(f"{len(unknown)} not verified without {MANIFEST}: {', '.join(unknown)}")
    if problems:
        raise UsageError("; ".join(problems))


def _of_flaxlab(saved: Saved) -> bool:
    return (saved.folder / "record" / "metadata").is_file()


def compare(a: Path, b: Path, step: str, keep: Keep, form: str, everything: bool) -> None:
    """Prints the differences between two checkpoints.

    Args:
        a: one checkpoint, see `find_saved`.
        b: the other.
        step: step of both, see `choose`.
        keep: whether to compare a leaf.
        form: "table", "json" or "csv".
        everything: list all differences; else those in leaves of `listing.only_counted` are
            counted.
    """
    left, right = (choose(find_saved(path), step) for path in (a, b))
    require_intact(left)
    require_intact(right)
    tree_a, tree_b = _only_tree(left), _only_tree(right)
    config = config_changes(left, right)
    leaves_a, leaves_b = (
        [leaf for leaf in listing.in_order(list_leaves(tree)) if keep(leaf)]
        for tree in (tree_a, tree_b)
    )
    structure = structure_changes(leaves_a, leaves_b)
    values = value_changes(tree_a, tree_b, keep)
    if form == "json":
        contents = {
            "a": str(left.folder),
            "b": str(right.folder),
            "config": None
            if config is None
            else {path: list(pair) for path, pair in config.items()},
            "structure": structure,
            "values": values,
        }
        print(listing.to_json(contents))
    elif form == "csv":
        print(listing.to_csv(values), end="")
    else:
        counted = [] if everything else listing.only_counted([*leaves_a, *leaves_b])
        _print_difference(left, right, config, structure, values, {leaf.path for leaf in counted})


def _only_tree(saved: Saved) -> Path:
    if len(saved.trees) == 1:
        return next(iter(saved.trees.values()))
    if "state" in saved.trees:
        return saved.trees["state"]
    raise UsageError(
        f"{saved.folder} holds several trees ({', '.join(saved.trees)}); give the folder of one"
    )


def _print_difference(
    left: Saved,
    right: Saved,
    config: dict[str, tuple[Any, Any]] | None,
    structure: Sequence[dict[str, Any]],
    values: Sequence[dict[str, Any]],
    counted: Collection[str],
) -> None:
    console = open_console(highlight=False, markup=False)
    for name, saved in (("a", left), ("b", right)):
        console.print(f"{name}: {saved.folder}", soft_wrap=True)
    if config is None:
        console.print("config: unknown for at least one")
    elif not config:
        console.print("config: the same")
    else:
        text = f"config: {configs.describe(config)}"
        console.print(text, soft_wrap=True)
    listed = [row for row in structure if row["path"] not in counted]
    if listed:
        table = Table("path", "a", "b", box=None, pad_edge=False, title="structure")
        for row in listed:
            table.add_row(row["path"], row["a"] or "absent", row["b"] or "absent")
        console.print(table)
    elif not structure:
        console.print("structure: the same")
    if len(structure) > len(listed):
        console.print(listing.not_listed(len(structure) - len(listed), "of another structure"))
    changed = [row for row in values if row["change"]]
    same = len(values) - len(changed)
    console.print(f"values: {len(changed)} arrays differ, {same} are the same")
    listed = [row for row in changed if row["path"] not in counted]
    if listed:
        table = Table("path", box=None, pad_edge=False)
        table.add_column("relative change", justify="right")
        table.add_column("largest difference", justify="right")
        for row in listed:
            table.add_row(row["path"], f"{row['change']:.3g}", f"{row['largest']:.3g}")
        console.print(table)
    if len(changed) > len(listed):
        console.print(listing.not_listed(len(changed) - len(listed), "with other values"))


def plot(path: Path, step: str, keep: Keep, to: Path) -> None:
    """Writes weights.png, filters.png and normalization.png, those that have something to show.

    Args:
        path: see `find_saved`.
        step: see `choose`.
        keep: whether to draw a leaf.
        to: folder to write to.

    Raises:
        UsageError: there is no checkpoint, it is damaged, it holds nothing to draw, or `to` cannot
            be made.
    """
    from flaxlab.inspect import pictures
    from flaxlab.pages import image_plots, style

    chosen = choose(find_saved(path), step)
    require_intact(chosen)
    tree = _only_tree(chosen)
    found = list_leaves(tree)
    left_out = {"opt_state"}
    if any(leaf.collection == "average" for leaf in found):  # it is what the run scores
        left_out |= {"params", "batch_stats"}
    leaves = [leaf for leaf in found if keep(leaf) and leaf.collection not in left_out]
    weights: dict[str, ArrayStatistics] = {}
    norms: dict[str, dict[str, np.ndarray]] = {}
    first = None
    for leaf, array in read_leaves(tree, leaves):
        if array.ndim > 1:
            weights[leaf.path] = describe_array(array)
        if array.ndim == 4 and first is None:
            first = (array, leaf.path)
        group, _, name = leaf.path.rpartition("/")
        if array.ndim == 1 and name in ("scale", "mean", "var"):
            layer = group.split("/", 1)[-1].removesuffix("/norm")
            norms.setdefault(layer, {})[name] = np.asarray(array, np.float64)
    figures = {}
    if weights:
        figures["weights"] = pictures.weight_histograms(weights)
    if first is not None:
        figures["filters"] = image_plots.filters(*first)
    if norms:
        figures["normalization"] = pictures.normalization(norms)
    if not figures:
        raise UsageError(
            f"there is nothing to draw in {tree}: no weights of two dimensions or more"
        )
    files.make_folder(to, "--plot")
    for name, figure in figures.items():
        files.write_bytes(to / f"{name}.png", style.png(figure))
        print(f"wrote {to / name}.png")
