"""What the points of a picture say on a page, and that files of the picture do not change."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from flaxlab.compare import pictures
from flaxlab.compare.comparison import compare
from flaxlab.compare.runs import find_runs
from flaxlab.pages import plots, render, style
from flaxlab.pages.values import say
from flaxlab.scores import Reliability
from flaxlab.training.metrics import Row
from tests.helpers.finished_runs import write_run

pytestmark = pytest.mark.usefixtures("pictures")


def circles(figure):
    """Returns [(x, y, radius, text)] of what says something in the SVG of a figure."""
    element = style.svg(figure, "one").replace("<svg", '<svg xmlns:xlink="x"', 1)
    return [
        (*(float(each.get(key)) for key in ("cx", "cy", "r")), each.find("title").text)
        for each in ElementTree.fromstring(element).iter("circle")
    ]


def texts(figure):
    """Returns what is said, line by line."""
    return [line for *_, text in circles(figure) for line in text.split("\n")]


@style.styled
def drawn(points, words):
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.plot(*np.transpose(points), "o", color=style.BLUE)
    if words:
        say(axes, *np.transpose(points), words)
    return figure


def test_words_are_where_matplotlib_draws_the_points():
    points = [(0.0, 5.0), (2.0, 7.0), (3.0, 1.0)]
    element = style.svg(drawn(points, ["a", "b", "c"]), "one")
    points = re.findall(r' x="([\d.]+)" y="([\d.]+)" style="fill: var\(--blue\)', element)
    marks = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', element)
    assert len(points) == 3
    np.testing.assert_allclose(np.array(marks, float), np.array(points, float), atol=0.06)


def test_words_cannot_break_the_page():
    assert texts(drawn([(0, 0)], ["</title><script>"])) == ["</title><script>"]
    assert "<script" not in style.svg(drawn([(0, 0)], ["</title><script>"]), "one")


def test_points_in_one_place_speak_together_and_a_missing_one_is_silent():
    found = circles(drawn([(0, 0), (0, 0), (1, np.nan), (1, 1)], ["a", "b", "none", "c"]))
    assert [text for *_, text in found] == ["a\nb", "c"]


def test_points_of_several_lines_in_one_place_speak_together():
    figure = drawn([(0, 0), (1, 1)], ["a", "b"])
    say(figure.axes[0], [1], [1], ["c"])
    assert [text for *_, text in circles(figure)] == ["a", "b\nc"]


def test_words_of_near_points_do_not_cover_each_other():
    found = circles(drawn([(x, 0) for x in range(60)], [str(x) for x in range(60)]))
    for (x, _, radius, _), (next_x, _, next_radius, _) in itertools.pairwise(found):
        assert radius + next_radius <= next_x - x + 0.2


@pytest.mark.parametrize("form", style.FORMS)
def test_files_are_the_same_without_words(form):
    points = [(0, 5), (2, 7)]
    render_as = style.FORMS[form]
    assert render_as(drawn(points, ["a", "b"])) == render_as(drawn(points, None))


def test_screen_readers_get_the_words():
    """By ARIA, what is inside an element of the role "img" is not read."""
    assert 'role="group"' in render._picture(style.svg(drawn([(0, 0)], ["a"]), "one"), "text")
    assert 'role="img"' in render._picture(style.svg(drawn([(0, 0)], None), "one"), "text")


def test_curves_say_their_numbers():
    history = [Row(1, 1.5, 0.4, 1.25, 0.4321, 0.001), Row(2, 1.0, 0.5, 0.75, 0.625, 0.001)]
    assert texts(plots.curves(history, "title", None)) == [
        "epoch 1: training accuracy 0.4000",
        "epoch 2: training accuracy 0.5000",
        "epoch 1: validation accuracy 0.4321",
        "epoch 2: validation accuracy 0.6250",
        "epoch 1: training loss 1.5000",
        "epoch 2: training loss 1.0000",
        "epoch 1: validation loss 1.2500",
        "epoch 2: validation loss 0.7500",
    ]


def test_bins_of_the_reliability_diagram_say_their_numbers():
    found = Reliability(
        np.array([2.0, 0.0, 6.0]), np.array([0.3, np.nan, 0.9]), np.array([0.5, np.nan, 0.8])
    )
    assert texts(plots.reliability(found)) == [
        "2 predictions, 30.0% sure on average: 50.0% are right",
        "6 predictions, 90.0% sure on average: 80.0% are right",
    ]


@pytest.fixture
def arms(tmp_path):
    """A sweep of one number in three arms, two seeds each."""
    for index, rate in enumerate((0.001, 0.01, 0.1)):
        for seed in range(2):
            final = 0.8 + 0.03 * index + 0.01 * seed * (index + 1)
            write_run(
                tmp_path / f"rate {rate}/{seed}",
                "alexnet_default",
                seed,
                [0.5, final],
                name=f"rate {rate}",
                optimizer__learning_rate=rate,
            )
    return compare(find_runs([tmp_path])[0], "rate 0.001", "").arms


def test_of_a_long_curve_some_epochs_speak_and_the_last_one_does(tmp_path):
    values = np.linspace(0.1, 0.9, 120)
    write_run(tmp_path / "run", "alexnet_default", 0, values.tolist())
    said = texts(pictures.curves(compare(find_runs([tmp_path])[0], None, "").arms))
    epochs = [int(re.search(r"epoch (\d+): val", text)[1]) for text in said if ": val" in text]
    assert epochs == list(range(3, 121, 3))


def test_pictures_of_a_comparison_say_their_numbers(arms):
    said = texts(pictures.curves(arms))
    assert len(said) == 3 * 3 * 2
    assert "rate 0.01, epoch 2: validation accuracy 0.8400, 0.8300 to 0.8500" in said
    assert "rate 0.01, seed 1: 0.8500" in texts(pictures.dots(arms))
    assert "rate 0.01, mean: 0.8400" in texts(pictures.dots(arms))
    pairs = "rate 0.01, seed 1: baseline 0.8100, arm 0.8500"
    assert texts(pictures.pairs(arms, "accuracy")).count(pairs) == 2
    (first, second) = texts(pictures.forest(arms, "accuracy"))
    estimate = arms[1].difference.estimate
    bounds = f"[{estimate.low * 100:+.2f}, {estimate.high * 100:+.2f}]"
    assert first == f"rate 0.01: +3.50 {bounds} points"
    assert second.startswith("rate 0.1: +7.00 [")
    swept = texts(pictures.sweeps(arms, "accuracy"))
    assert "optimizer.learning_rate 0.1, seed 0: 0.8600" in swept
    assert any(text.startswith("optimizer.learning_rate 0.1: 0.8750 [") for text in swept)
