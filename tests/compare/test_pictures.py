"""What the pictures of a comparison show, beside the figures that its tables have as well."""

import numpy as np
import pytest

from flaxlab.compare import pictures
from flaxlab.compare.__main__ import main
from flaxlab.compare.comparison import compare
from flaxlab.compare.runs import find_runs
from flaxlab.pages import plots
from flaxlab.pages.plots import GREY
from tests.helpers.finished_runs import write_run


@pytest.fixture
def arms(tmp_path):
    def write(epochs):
        for name in ("alexnet_default", "alexnet_pool"):
            for seed in range(2):
                values = np.linspace(0.5, 0.8 + 0.01 * seed, epochs).tolist()
                write_run(tmp_path / name / f"{seed}", name, seed, values)
        return compare(find_runs([tmp_path])[0], None, "").arms

    return write


def shown_ticks(axis):
    low, high = axis.get_view_interval()
    return [tick for tick in axis.get_ticklocs() if low <= tick <= high]


@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_epochs_are_whole_numbers(arms, epochs):
    for axes in pictures.curves(arms(epochs)).axes:
        assert axes.get_xlim() == (0.5, epochs + 0.5)
        ticks = shown_ticks(axes.xaxis)
        assert ticks
        assert all(tick in range(1, epochs + 1) for tick in ticks)


def test_the_legend_of_the_dots_wears_no_arms_colour(arms):
    (axes,) = pictures.dots(arms(1)).axes
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["one run", "mean", "lab report"]
    assert {line.get_color() for line in legend.legend_handles} == {GREY}
    assert len({line.get_color() for line in axes.lines} - {GREY}) == 2


def test_a_reduced_protocol_stands_in_every_picture(tmp_path, monkeypatch):
    for name in ("alexnet_default", "alexnet_pool"):
        for seed in range(2):
            folder = tmp_path / name / f"{seed}"
            write_run(folder, name, seed, [0.8, 0.9], data__train_examples=6000)
    drawn = []
    original = plots.png
    monkeypatch.setattr(plots, "png", lambda figure: drawn.append(figure) or original(figure))
    main([str(tmp_path)])
    assert len(drawn) == len(list(tmp_path.glob("*.png"))) == 6
    sentence = "Not the protocol of the experiment files: data.train_examples: 6000 instead of None"
    assert sentence in (tmp_path / "comparison.md").read_text()
    for figure in drawn:
        assert figure.get_supxlabel().replace("\n", " ").startswith(sentence)
        # It lies in the figure, and on nothing of what that shows.
        figure.draw_without_rendering()
        text = figure._supxlabel.get_window_extent()
        assert figure.bbox.x0 <= text.x0 < text.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= text.y0
        shown = [axes.get_tightbbox() for axes in figure.axes if axes.axison]
        assert all(text.y1 <= box.y0 for box in shown)
