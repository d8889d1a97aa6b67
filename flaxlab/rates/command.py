"""Runs the range test, and writes and prints what it shows, for the command `flaxlab.rates`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flaxlab import files
from flaxlab.command_line import open_console
from flaxlab.config.find import find_experiment
from flaxlab.data.load import load_dataset
from flaxlab.data.shape import resolve_config
from flaxlab.errors import UsageError
from flaxlab.machine import set_up_compiler
from flaxlab.pages import plots, style
from flaxlab.rates.growth import RangeTest, range_test


def find_rates(
    config_file: Path,
    overrides: Sequence[str],
    low: float,
    high: float,
    steps: int,
    to: Path | None,
) -> None:
    """Runs the range test of an experiment, prints what it shows, and writes table and picture.

    Args:
        config_file: the experiment file.
        overrides: "--config.FIELD=VALUE" each.
        low: first learning rate.
        high: last learning rate.
        steps: number of steps.
        to: folder for rates.csv and rates.png; None: runs/NAME_rates.

    Raises:
        UsageError: the file, an override, the data set or the range is wrong.
        RunFailed: the loss is not a number before the first step.
    """
    if not low < high or steps < 2:
        raise UsageError(
            f"--low={low:g} --high={high:g} --steps={steps} is not a range; expected low below"
            " high, and at least 2 steps"
        )
    set_up_compiler()
    config = resolve_config(find_experiment(config_file), overrides)
    dataset = load_dataset(config.data)
    folder = (to or Path("runs") / f"{config.name}_rates").expanduser()
    files.make_folder(folder, "--to")
    found = range_test(config, dataset, low, high, steps)
    rows = zip(found.rates, found.losses, found.smoothed, strict=True)
    lines = [f"{rate:.6g},{loss:.6g},{smooth:.6g}" for rate, loss, smooth in rows]
    files.write_text(folder / "rates.csv", "\n".join(["rate,loss,smoothed_loss", *lines, ""]))
    marks = {"falls fastest": found.steepest, "lowest": found.largest}
    title = f"{config.name}, {config.optimizer.name}, batch {config.train.batch_size}"
    figure = plots.range_test(
        found.rates,
        found.losses,
        found.smoothed,
        {label: rate for label, rate in marks.items() if rate is not None},
        title,
    )
    files.write_bytes(folder / "rates.png", style.png(figure))
    console = open_console()
    for line in describe(found, config.optimizer.learning_rate):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"picture: {folder / 'rates.png'}", highlight=False, markup=False, soft_wrap=True)


def describe(found: RangeTest, used: float) -> list[str]:
    """Returns what a range test shows, in sentences.

    Args:
        found: the test.
        used: learning rate of the experiment.
    """
    end = f"after {len(found.rates)} steps, at {found.rates[-1]:.2g}"
    lines = [f"the loss diverged {end}" if found.diverged else f"the loss did not diverge {end}"]
    if found.steepest is not None:
        lines.append(f"it falls fastest at {found.steepest:.2g}: a first guess")
    if found.largest is None and found.diverged:
        lines.append("it fell until it diverged: use more --steps, to see where")
    elif found.largest is None:
        lines.append("it is lowest at the last rate: use a larger --high")
    else:
        lines.append(
            f"it is lowest at {found.largest:.2g}, and rises beyond: the most that a warm-up or"
            f" one_cycle may lead to; a tenth of it, {found.largest / 10:.2g}, is a careful choice"
        )
    return [*lines, f"the experiment has {used:g}"]
