"""Prints what the first step of an experiment consists of, changes and costs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import flax.linen as nn
import jax
from flax.traverse_util import flatten_dict
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from flaxlab import models
from flaxlab.batches.order import epoch_order
from flaxlab.command_line import open_console
from flaxlab.config.find import find_experiment
from flaxlab.data.shape import resolve_config
from flaxlab.explain.changes import Change, moments
from flaxlab.explain.program import FirstSteps, take_first_steps
from flaxlab.explain.stand_in import dataset_or_noise
from flaxlab.inspect.listing import size
from flaxlab.machine import set_up_compiler
from flaxlab.models.dropout import Dropout
from flaxlab.texts import count_text
from flaxlab.training.experiment import Experiment, assemble

ModulePath = tuple[str, ...]


def explain(config_file: Path, overrides: Sequence[str]) -> None:
    """Prints what the first step of an experiment consists of, changes and costs.

    Args:
        config_file: the experiment file.
        overrides: "--config.FIELD=VALUE" each.

    Raises:
        UsageError: the file, an override or the data set is wrong.
    """
    set_up_compiler()
    # On several devices, the same step would run on parts of the batch.
    alone = ("--config.train.parallel=sharded", "--config.train.devices=1")
    config = resolve_config(find_experiment(config_file), [*overrides, *alone])
    dataset, missing = dataset_or_noise(config)
    experiment = assemble(config, dataset)
    console = open_console()
    _say(console, f"{config.name} on {dataset.title}: {dataset.origin}")
    if missing:
        _say(console, f"The images are random, because the data set is not available: {missing}")
    _print_modules(console, experiment)
    _print_keys(console, experiment)
    found = take_first_steps(experiment)
    _print_step(console, experiment, found)
    _print_changes(console, experiment, found)
    _print_program(console, experiment, found)


def _print_modules(console: Console, experiment: Experiment) -> None:
    _head(console, "The modules: they describe the network and hold no values")
    calls, variables = models.trace_modules(experiment.model, experiment.dataset.image_shape)
    held = {
        collection: flatten_dict(variables.get(collection, {}))
        for collection in ("params", "batch_stats")
    }
    image = _shape(experiment.dataset.image_shape)
    network, shape, *_ = calls[()]
    branches: dict[ModulePath, Tree] = {
        (): Tree(f"{_kind(network)}  image {image} -> {_shape(shape)} logits")
    }

    def branch(path: ModulePath) -> Tree:
        # Its parents come first, since calls return from the inside out.
        if path not in branches:
            branches[path] = branch(path[:-1]).add(label(path), highlight=False)
        return branches[path]

    def label(path: ModulePath) -> str:
        module, shape, *_ = calls[path]
        parts = [path[-1], f"[dim]{_kind(module)}[/dim]", f"-> {_shape(shape)}"]
        for collection, mark in (("params", ""), ("batch_stats", " (running)")):
            inside = {key[-1]: leaf for key, leaf in held[collection].items() if key[:-1] == path}
            parts += [f"{name} {_shape(leaf.shape)}{mark}" for name, leaf in inside.items()]
        return "  ".join(parts)

    for path in calls:
        branch(path)
    console.print(branches[()], highlight=False)
    trainable = models.count_trainable(experiment.layers)
    running = models.count_parameters(experiment.layers) - trainable
    _say(
        console,
        f"{trainable:,} trainable values and {running:,} running statistics; shapes"
        " are those of one image",
    )


def _print_keys(console: Console, experiment: Experiment) -> None:
    _head(console, "The random keys: each follows from the seed and a number")
    config, model = experiment.config, experiment.model
    key = jax.random.key(config.seed)
    init_key, step_key = jax.random.split(key)
    rows = [
        (f"key({config.seed})", key, "split in two"),
        ("split(...)[0]", init_key, "initial values: the path of each parameter is folded in"),
        ("split(...)[1]", step_key, "state.key, which never changes"),
        *(
            (
                f"fold_in(state.key, {step})",
                jax.random.fold_in(step_key, step),
                f"dropout of step {step}",
            )
            for step in range(2)
        ),
    ]
    table = _table("key", "its two words", "used for")
    for name, value, use in rows:
        words = " ".join(f"{word:08x}" for word in jax.random.key_data(value).tolist())
        table.add_row(name, words, use)
    console.print(table, highlight=False)
    calls, _ = models.trace_modules(model, experiment.dataset.image_shape)
    for path, (module, shape, *_) in calls.items():
        if isinstance(module, Dropout | nn.Dropout):
            _say(
                console,
                f"{'/'.join(path)}: drops {module.rate:.0%} of {_shape(shape)} values per image,"
                " by the step's key with the path of the layer folded in",
            )
    if not any(isinstance(module, Dropout | nn.Dropout) for module, *_ in calls.values()):
        _say(console, "no dropout: the keys of the steps are not used")
    order = epoch_order(len(experiment.splits.train), config.seed, 1)[:6].tolist()
    _say(
        console,
        f"order of the examples: a function of (seed, epoch); epoch 1 begins with {order}",
    )
    if config.data.validation == "holdout":
        _say(console, f"holdout: drawn by the seed, {len(experiment.splits.validation)} examples")


def _print_step(console: Console, experiment: Experiment, found: FirstSteps) -> None:
    _head(console, "The step: state, metrics = step(state, batch)")
    shape = _shape(experiment.dataset.image_shape)
    size_of_batch = experiment.config.train.batch_size
    _say(
        console,
        f"batch: image uint8 {size_of_batch} x {shape}, label int32 {size_of_batch},"
        f" mask bool {size_of_batch}; {count_text(found.steps, 'step')} per call",
    )
    penalty = f", penalty {found.penalty:.4f}" if found.penalty else ""
    _say(
        console,
        f"first call: loss {found.loss:.4f}, accuracy {found.accuracy:.4f}{penalty}",
    )


def _print_changes(console: Console, experiment: Experiment, found: FirstSteps) -> None:
    _head(console, "The state before and after the first call")
    counts = []
    for field, group in itertools.groupby(found.changes, key=lambda change: change.field):
        changed = [change.changed > 0 for change in group]
        counts.append(f"{field} {sum(changed)} of {len(changed)}")
    _say(console, f"arrays that changed: {', '.join(counts)}")
    of_moments = moments(found.changes, jax.eval_shape(experiment.create_state).params)
    grouped = {change for group in of_moments.values() for change in group}
    table = _table("array", "shape", "dtype")
    for title in ("changed", "before", "after", "moved by"):
        table.add_column(title, justify="right")
    for change in found.changes:
        if change not in grouped:
            table.add_row(*_cells(change))
    for name, moment in of_moments.items():
        values = sum(change.size for change in moment)
        differing = f"{sum(change.changed for change in moment):,} of {values:,}"
        table.add_row(f"opt_state/{name}", f"{len(moment)} arrays", "", differing)
    console.print(table, highlight=False)
    _say(
        console,
        "before, after: the value of a scalar, or the root mean square of an array's values;"
        " moved by: the same for the differences",
    )


def _cells(change: Change) -> list[str]:
    name = f"{change.field}/{change.path}" if change.path else change.field
    shape = _shape(change.shape) or "scalar"
    cells = [escape(name), shape, change.dtype, f"{change.changed:,} of {change.size:,}"]
    if change.field == "key":
        return [*cells, "", "", ""]
    return [*cells, *(f"{value:.4g}" for value in (change.before, change.after, change.moved))]


def _print_program(console: Console, experiment: Experiment, found: FirstSteps) -> None:
    _head(console, "The compiled program")
    calls = ", ".join(
        f"{count} of {examples} examples" if count < examples else f"{examples} examples"
        for examples, count in found.examples
    )
    seconds = ", ".join(f"{value:.3g} s" for value in found.seconds)
    _say(
        console,
        f"compiled {count_text(found.compiled, 'time')} for"
        f" {len(found.seconds)} calls ({calls}), which took {seconds}",
    )
    cost = found.cost
    forward = sum(row.flops for row in experiment.layers) * experiment.config.train.batch_size
    gradients = 2 if experiment.config.optimizer.sam_radius else 1
    once = "" if found.steps == 1 else ", one step of each call"
    table = _table("one call", "", "")
    table.columns[1].justify = "right"
    for name, value, remark in (
        ("operations", _flops(cost.flops), f"counted in the compiled program{once}"),
        (
            "by the layers",
            _flops(3.0 * forward * gradients),
            "one step with direct convolutions: the forward pass, and twice that for gradients"
            + ("; all of it twice, for sam_radius" if gradients == 2 else ""),
        ),
        ("memory traffic", _bytes(cost.bytes_accessed), f"summed over the operations{once}"),
        ("arguments", size(cost.arguments), "state, metrics, examples"),
        (
            "results",
            size(cost.outputs),
            f"{size(cost.aliased)} of them in reused memory",
        ),
        ("intermediate", size(cost.temporary), "activations, gradients"),
        (
            "peak memory",
            size(cost.peak),
            "arguments, intermediate, and results not in reused memory",
        ),
    ):
        table.add_row(name, value, remark)
    console.print(table, highlight=False)


def _flops(value: float | None) -> str:
    return "unknown" if value is None else f"{value / 1e6:,.1f} MFLOP"


def _bytes(value: float | None) -> str:
    return "unknown" if value is None else size(value)


def _kind(module: nn.Module) -> str:
    return type(module).__name__


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title)
    return table


def _head(console: Console, text: str) -> None:
    console.print()
    console.print(text, style="bold", highlight=False, markup=False)


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
