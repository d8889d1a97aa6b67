"""What the pictures of a comparison show, beside the figures that its tables have as well."""

import numpy as np
import pytest

from flaxlab.compare import class_pictures, pictures
from flaxlab.compare.__main__ import main
from flaxlab.compare.comparison import compare
from flaxlab.compare.runs import find_runs
from flaxlab.pages import style
from flaxlab.pages.style import GREY
from tests.helpers.finished_runs import write_run

pytestmark = pytest.mark.usefixtures("pictures")


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


def lines(axes, marker):
    """Returns the lines of axes that have a marker: x and y, and the colour."""
    chosen = [line for line in axes.lines if line.get_marker() == marker]
    return [(*map(list, line.get_data()), line.get_color()) for line in chosen]


def test_runs_of_a_seed_are_joined_and_coloured_by_who_wins(tmp_path):
    """Seed 2 collapsed in the arm, seed 3 is the arm's alone: they are no pairs."""
    finals = {"alexnet_default": (0.8, 0.9, 0.85), "alexnet_pool": (0.85, 0.88, 0.3, 0.9)}
    for name, values in finals.items():
        for seed, value in enumerate(values):
            write_run(tmp_path / name / f"{seed}", name, seed, [value])
    (axes,) = pictures.pairs(compare(find_runs([tmp_path])[0], None, "").arms, "accuracy").axes
    blue, red = "#0072b2", "#d55e00"
    assert lines(axes, "o") == [([0, 1], [0.8, 0.85], blue), ([0, 1], [0.9, 0.88], red)]
    ((x, mean, _),) = lines(axes, "None")
    assert (x, mean) == ([0, 1], pytest.approx([0.85, 0.865]))
    assert axes.get_title() == "alexnet_pool"


def sweep(folder, field, values):
    """Writes arms of two seeds that differ from alexnet_default in a field of the config."""
    for value in values:
        for seed in range(2):
            name = f"{field}={value}"
            run = folder / name / f"{seed}"
            fields = {"name": name, field: value}
            write_run(run, "alexnet_default", seed, [0.8 + 0.02 * seed], **fields)


@pytest.mark.parametrize(
    ("field", "values", "scale", "shown"),
    [
        ("optimizer__learning_rate", (0.1, 0.0001), "log", [0.0001, 0.001, 0.1]),
        ("loss__l2", (0.01, 0.0001), "symlog", [0, 0.0001, 0.01]),
        ("train__batch_size", (96, 128), "linear", [64, 96, 128]),
    ],
)
def test_a_sweep_is_drawn_over_its_values(tmp_path, field, values, scale, shown):
    for seed in range(2):
        write_run(tmp_path / "base" / f"{seed}", "alexnet_default", seed, [0.7 + 0.02 * seed])
    sweep(tmp_path, field, values)
    arms = compare(find_runs([tmp_path])[0], "alexnet_default", "").arms
    (axes,) = pictures.sweeps(arms, "accuracy").axes
    assert axes.get_xscale() == scale
    assert axes.get_xlabel() == field.replace("__", ".")
    assert list(axes.get_xticks()) == shown
    means = {x[0]: y[0] for x, y, _ in lines(axes, "D")}
    base = {"optimizer__learning_rate": 0.001, "loss__l2": 0.0, "train__batch_size": 64}[field]
    assert means == {value: pytest.approx(0.71 if value == base else 0.81) for value in shown}
    # Student's t of one degree of freedom is 12.706, and the spread 0.01414: over the root of 2.
    bars = [bar.get_segments()[0][:, 1] for bar in axes.collections]
    halves = sorted((high - low) / 2 for low, high in bars)
    assert halves[-1] == pytest.approx(0.12706, abs=1e-4)


def test_what_is_no_number_alone_is_no_sweep(tmp_path):
    write_run(tmp_path / "base", "alexnet_default", 0, [0.7])
    sweep(tmp_path, "model__block_activation", ("gelu", "elu"))
    sweep(tmp_path, "model__standardize_kernels", (True,))
    sweep(tmp_path, "train__batch_size", (128,))  # two points say nothing of a curve
    arms = compare(find_runs([tmp_path])[0], "alexnet_default", "").arms
    assert pictures.swept(arms) == {}


def test_a_gain_has_one_colour_on_and_beside_the_diagonal(arms):
    """Blue is what RdBu has for positive values."""
    base, arm = arms(1)
    before = np.array([[8.0, 2.0], [4.0, 6.0]])
    after = np.array([[9.0, 1.0], [6.0, 4.0]])
    object.__setattr__(base, "confusion", lambda: before)
    object.__setattr__(arm, "confusion", lambda: after)
    axes, _ = class_pictures.confusion_differences([base, arm], ["cat", "dog"]).axes
    (image,) = axes.images
    assert image.get_cmap().name == "RdBu"
    # Of 10 each: 1 cat more is right, 1 fewer is wrong; 2 dogs fewer are right, 2 more are wrong.
    np.testing.assert_allclose(image.get_array(), [[10, 10], [-20, -20]])
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "+10", (1, 0): "-10", (0, 1): "+20", (1, 1): "-20"}


def test_differences_are_drawn_within_what_is_possible(tmp_path):
    for name, values in {"alexnet_default": (0.99, 0.6), "alexnet_pool": (0.51, 0.99)}.items():
        for seed, value in enumerate(values):
            write_run(tmp_path / name / f"{seed}", name, seed, [value])
    (axes,) = pictures.forest(compare(find_runs([tmp_path])[0], None, "").arms, "accuracy").axes
    assert axes.get_xlim() == (-100, 100)


def test_a_reduced_protocol_stands_in_every_picture(tmp_path, monkeypatch):
    for name in ("alexnet_default", "alexnet_pool"):
        for seed in range(2):
            folder = tmp_path / name / f"{seed}"
            write_run(folder, name, seed, [0.8, 0.9], data__train_examples=6000)
    drawn = []
    original = style.png
    seen = {"png": lambda figure: drawn.append(figure) or original(figure)}
    monkeypatch.setattr(style, "FORMS", seen)
    main([str(tmp_path)])
    assert len(drawn) == len(list(tmp_path.glob("*.png"))) == 7
    sentence = "Not the protocol of the experiment files: data.train_examples: 6000 instead of None"
    assert sentence in (tmp_path / "comparison.md").read_text()
    # The page says it once, and not in each of its pictures.
    assert (tmp_path / "comparison.html").read_text().count("Not the protocol") == 1
    for figure in drawn:
        assert figure.get_supxlabel().replace("\n", " ").startswith(sentence)
        # It lies in the figure, and on nothing of what that shows.
        figure.draw_without_rendering()
        text = figure._supxlabel.get_window_extent()
        assert figure.bbox.x0 <= text.x0 < text.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= text.y0
        shown = [axes.get_tightbbox() for axes in figure.axes if axes.axison]
        assert all(text.y1 <= box.y0 for box in shown)
