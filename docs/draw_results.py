"""Draws the lab report's numbers beside the runs in results/: docs/images/report.png.

    python docs/draw_results.py

`make results` does that.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from update_results import ROOT, arms, experiments_of

from flaxlab.compare.runs import Run
from flaxlab.compare.statistics import prediction_interval
from flaxlab.config.find import experiment_file
from flaxlab.config.read import load_lab_report
from flaxlab.pages import style

DRAWING = ROOT / "docs/images/report.png"

_OURS, _REPORT = style.BLUE, style.VERMILLION


@style.styled
def draw(found: dict[str, dict[int, Run]], experiments: list[str]) -> Figure:
    """Returns one row for each experiment, and one panel for each data set.

    With two runs, the interval for a further one would cover nearly every accuracy: it is left out.

    Args:
        found: {experiment: {seed: run}}.
        experiments: their order.
    """
    panels: dict[str, list[str]] = {}
    for name in experiments:
        if found.get(name):
            panels.setdefault(next(iter(found[name].values())).summary["dataset"], []).append(name)
    figure = Figure(figsize=(9, 0.9 + 0.36 * sum(map(len, panels.values()))))
    heights = [len(names) for names in panels.values()]
    grid = figure.subplots(len(panels), squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, (title, names) in zip(grid[:, 0], panels.items(), strict=True):
        _draw_panel(axes, title, {name: found[name] for name in names})
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _draw_panel(axes: Axes, title: str, found: dict[str, dict[int, Run]]) -> None:
    for row, (name, seeds) in enumerate(found.items()):
        accuracies = [run.scores.final_accuracy for run in seeds.values()]
        final, further = np.multiply(accuracies, 100), prediction_interval(accuracies).clipped()
        first = row == 0
        if len(final) > 2 and further.low is not None and further.high is not None:
            label = "where one further run of ours would lie, with 95%" if first else None
            ends = [100 * further.low, 100 * further.high]
            axes.plot(ends, [row, row], color=_OURS, alpha=0.25, linewidth=5, label=label)
        label = "a run of ours" if first else None
        axes.plot(final, [row] * len(final), "o", color=_OURS, markersize=6, alpha=0.8, label=label)
        report = load_lab_report(experiment_file(name, []))
        if report is not None:
            label = "the lab report's run" if first else None
            said = 100 * report.final_accuracy
            axes.plot(said, row, "D", color=_REPORT, markersize=7, fillstyle="none", label=label)
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    axes.set_title(f"{title}: accuracy on the test images after ten epochs, %", loc="left")
    axes.grid()


if __name__ == "__main__":
    readme = ROOT / "README.md"
    DRAWING.write_bytes(style.png(draw(arms(), experiments_of(readme.read_text()))))
    print(f"drew {DRAWING.name}")
