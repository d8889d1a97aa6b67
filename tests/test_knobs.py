"""docs/knobs.md: every knob once, with its default, what it may be and what it means."""

import re

import pytest

from docs.update_knobs import PAGE, attributes, comments, page
from flaxlab.config import default_config, flatten
from flaxlab.models import MODELS

SECTION = re.compile(r"^## (.*)$", re.MULTILINE)
ROW = re.compile(r"^\| `([\w.]+)` \| (.+?) \| (.+?) \| (.*) \|$", re.MULTILINE)


def rows_of(model):
    """Returns {dotted path: (default, values, meaning)} of the tables that are about a network."""
    _, *parts = SECTION.split(PAGE.read_text())
    found = []
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        _, _, networks = title.partition("model: ")
        if not networks or model in networks.split(", "):
            found += ROW.findall(text)
    assert len(found) == len({path for path, *_ in found}), "a knob is there twice"
    return {path: cells for path, *cells in found}


def test_the_page_is_that_of_the_code():
    assert PAGE.read_text() == page(), "python docs/update_knobs.py writes it"


@pytest.mark.parametrize("model", MODELS)
def test_the_page_has_every_knob_with_its_default_and_what_it_means(model):
    rows, fields = rows_of(model), dict(flatten(default_config(model)))
    assert rows.keys() == fields.keys()
    for path, (default, values, meaning) in rows.items():
        assert re.search(r"\w{3}", meaning), f"{path} has no comment or line in a docstring"
        assert values
        shown = dict(re.findall(r"(?:(\w+): )?`(.*?)`", default))
        if path != "model.name":
            assert shown.get(model, shown.get("")) in (str(fields[path]), repr(fields[path]))


def test_what_a_knob_may_be_is_said():
    rows = rows_of("vgg")
    assert rows["optimizer.name"][1].startswith("one of adam, adamw, sgd")
    assert rows["train.devices"][1] == "int, at least 1, or None"
    assert rows["train.init_from"][1] == "str, or None"
    assert rows["model.head_units"][1] == "a tuple of whole numbers from 1"
    assert rows["log.tensorboard"][1] == "bool"


def test_comments_above_and_beside_are_taken_and_others_are_not():
    source = """
# not this one
def default_config():
    config = ConfigDict()  # nor this
    config.a = "# no comment"

    # about
    # the group
    config.b = ConfigDict()
    config.b.c = (
        1,  # one
        2,
    )  # and two
    # above,
    config.b.d = 3  # beside
    # not about anything
    return config
"""
    expected = {"a": "", "b": "about the group", "b.c": "one and two", "b.d": "above, beside"}
    assert comments(source) == expected
    assert list(comments(source)) == list(expected)


def test_attributes_are_read_from_a_docstring():
    docstring = """What it is.

    Args:
        x: not this.

    Attributes:
        one: the first: of
            two lines.
        two: "a", see `b`.

    More.
    """
    assert attributes(docstring) == {"one": "the first: of two lines.", "two": '"a", see `b`.'}
