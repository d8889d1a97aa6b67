"""Pictures as parts of pages: the same each time, with text, in the page's colours."""

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rcParams
from PIL import Image

import flaxlab
from flaxlab.pages import plots, render, style

pytestmark = pytest.mark.usefixtures("pictures")

CSS = (Path(flaxlab.__file__).parent / "pages/page.css").read_text()
DAY, NIGHT = (
    dict(re.findall(r"--([\w-]+): (#\w{6})\b", CSS[CSS.index(start) :].split("}")[0]))
    for start in (":root {", "@media (prefers-color-scheme: dark) {")
)


def picture():
    return plots.confusion(np.array([[5, 7], [0, 9]]), ["<b>", "a & b"], "title")


def parsed(element):
    """Reads an element as XML, for which the names that HTML knows have to be said."""
    return ElementTree.fromstring(element.replace("<svg", '<svg xmlns:xlink="x"', 1))


def test_a_picture_of_a_page_is_the_same_each_time():
    assert style.svg(picture(), "one") == style.svg(picture(), "one")


def test_its_text_is_text():
    found = [text.text for text in parsed(style.svg(picture(), "one")).iter("text")]
    assert {"title", "<b>", "a & b", "true", "predicted", "5", "7", "0", "9"} <= set(found)


def test_every_id_is_its_own_on_the_page_and_used():
    both = style.svg(picture(), "one") + style.svg(picture(), "two")
    ids = re.findall(r' id="([^"]*)"', both)
    assert ids
    assert len(ids) == len(set(ids))
    assert set(ids) == set(re.findall(r'(?:url\(|href=")#([^)"]*)', both))


def test_it_brings_no_address_and_no_style_for_the_whole_page():
    element = style.svg(picture(), "one")
    assert "http" not in element
    assert "<style" not in element
    assert "font-family" not in element


@pytest.mark.parametrize(
    ("variable", "color"),
    [("ink", style.INK), ("soft", style.GREY), ("line", style.FAINT), ("blue", style.BLUE)],
)
def test_it_has_the_colours_of_the_page_by_day_and_night(variable, color):
    assert DAY[variable] == color
    assert NIGHT[variable] != color
    figure = plots.range_test(np.arange(1, 4), np.ones(3), np.ones(3), {"best": 2.0}, "x")
    element = style.svg(figure, "one")
    assert color not in element.lower()
    assert f"var(--{variable})" in element


def contrast(one, other):
    """Of two colours, by WCAG 2: 21 for black on white."""

    def luminance(color):
        shares = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in shares]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colors", [DAY, NIGHT], ids=["day", "night"])
@pytest.mark.parametrize(
    "pair",
    [
        ("ink", "paper"),
        ("soft", "paper"),
        ("blue", "paper"),
        ("ink", "ground"),
        ("soft", "ground"),
        ("ink", "warning"),
        ("ink", "mark"),
        ("ink", "plain"),
        ("good-ink", "good"),
        ("bad-ink", "bad"),
    ],
)
def test_text_can_be_read_on_its_paper(colors, pair):
    """By the 4.5 that WCAG 2.2 asks of text."""
    assert contrast(*(colors[name] for name in pair)) >= 4.5


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(rcParams)
    style.svg(picture(), "one")
    style.pdf(picture())
    assert dict(rcParams) == before


def test_a_figure_keeps_its_layout_and_is_then_drawn_once():
    figure = picture()
    before = style.png(figure)
    places = [axes.get_position().bounds for axes in figure.axes]
    drawn = []
    figure.canvas.mpl_connect("draw_event", drawn.append)
    style.keep_layout(figure)
    assert style.png(figure) == before
    assert len(drawn) == 1
    style.svg(figure, "one")  # at other dots an inch, where letters take other room
    assert [axes.get_position().bounds for axes in figure.axes] == places


def test_a_pdf_is_the_same_each_time_and_has_letters_as_publishers_want_them():
    assert style.pdf(picture()) == style.pdf(picture())
    assert b"/Type3" not in style.pdf(picture())


def test_a_png_is_shown_at_the_size_it_was_drawn_for():
    """120 pixels are an inch, which is 72 points."""
    content = style.png(picture())
    width = Image.open(io.BytesIO(content)).size[0]
    shown = render._picture(content, 'a "picture"')
    assert f'style="width: {width / 120 * 72:.0f}pt;' in shown
    assert 'alt="a &#34;picture&#34;"' in shown
