"""README, docs and docstrings: links lead somewhere, numbers are those of the code."""

import ast
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

import flaxlab
from docs.update_links import ROOT, definition_line, documents, relative_links, updated
from flaxlab import config as configs
from flaxlab import load
from flaxlab.command_line import EXIT_FAILED, EXIT_SIGNAL, EXIT_USAGE
from flaxlab.config.read import load_baseline, load_experiment
from flaxlab.config.rules import validate
from flaxlab.main import main
from flaxlab.run.signals import ASKING
from flaxlab.suite.plan import plan_suite

MODULES = sorted((ROOT / "flaxlab").rglob("*.py"))
names = {"ids": lambda path: path.relative_to(ROOT).as_posix()}


@pytest.mark.parametrize("document", documents(), **names)
def test_relative_links_lead_to_files(document):
    broken = [
        target
        for target in relative_links(document.read_text())
        if not (document.parent / target).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("document", documents(), **names)
def test_code_links_lead_to_the_line_that_defines_what_they_name(document):
    text = document.read_text()
    assert updated(text, document.parent) == text, "python docs/update_links.py mends it"
    # A link to a line whose text is no name would go unchecked.
    assert len(re.findall(r"\.py#L\d+\)", text)) == len(re.findall(r"`\]\([^)]*\.py#L\d+\)", text))


def test_there_are_code_links_to_check():
    assert (ROOT / "docs/how-it-works.md").read_text().count(".py#L") > 20


def test_a_moved_definition_is_found_and_a_missing_one_is_named(tmp_path):
    source = "LIMIT: int = 3\n\n\nclass Box:\n    size = 1\n\n    def open(self): ...\n"
    assert [definition_line(source, name) for name in ("LIMIT", "Box", "Box.open")] == [1, 4, 7]
    (tmp_path / "box.py").write_text(source)
    text = "See [`Box.open`](box.py#L99) and [`LIMIT`](box.py#L1)."
    assert updated(text, tmp_path) == "See [`Box.open`](box.py#L7) and [`LIMIT`](box.py#L1)."
    with pytest.raises(LookupError, match=r"box\.py: Box\.close is not defined"):
        updated("[`Box.close`](box.py#L1)", tmp_path)


def test_anchors_of_this_project_exist():
    for document in documents():
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#([a-z][\w-]*)\)", document.read_text()):
            if ":" in target:
                continue
            page = document.parent / target if target else document
            heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]
            assert anchor in slugs, f"{document}: {target}#{anchor}"


def public_definitions(path: Path):
    """Yields (name, node) of the public functions, classes and methods of a module."""

    def inside(body, prefix=""):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield f"{prefix}{node.name}", node
                if isinstance(node, ast.ClassDef):
                    yield from inside(node.body, f"{prefix}{node.name}.")

    yield from inside(ast.parse(path.read_text()).body)


@pytest.mark.parametrize("path", MODULES, **names)
def test_every_public_name_has_a_docstring(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert [name for name, node in public_definitions(path) if not ast.get_docstring(node)] == []


def test_the_experiment_and_the_suite_of_the_readme_do_what_it_says(tmp_path):
    pages = (ROOT / "README.md").read_text() + (ROOT / "docs/suites.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", pages, re.DOTALL)
    (experiment,) = (block for block in blocks if "def get_config()" in block)
    suite, designed = (block for block in blocks if "def get_suite()" in block)
    assert experiment in (ROOT / "docs/index.md").read_text()
    (tmp_path / "alexnet_average_pool.py").write_text(experiment)
    (tmp_path / "pooling.py").write_text(suite)
    config = load_experiment(tmp_path / "alexnet_average_pool.py")
    validate(config)
    baseline = load_baseline(tmp_path / "alexnet_average_pool.py", config)
    change = {"model.pool_kind": ("max", "avg")}
    assert configs.meaningful_differences(baseline, config) == change
    plan = plan_suite(tmp_path / "pooling.py", None, [])
    assert [arm.name for arm in plan.arms] == ["alexnet_pool", "alexnet_average_pool"]
    (tmp_path / "designed.py").write_text(designed)
    plan = plan_suite(tmp_path / "designed.py", None, [])
    arms = ["alexnet_pool", "without batch normalization", "without dropout"]
    assert [arm.name for arm in plan.arms] == arms


def test_the_network_of_ones_own_does_what_its_page_says(tmp_path):
    page = (ROOT / "docs/own-network.md").read_text()
    (experiment,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "tiny.py").write_text(experiment)
    main(
        [
            f"--config={tmp_path / 'tiny.py'}",
            f"--workdir={tmp_path / 'run'}",
            "--config.train.epochs=1",
            "--config.log.progress=none",
            "--config.model.filters=4",
        ]
    )
    model, variables, _ = load(tmp_path / "run", model=f"{tmp_path / 'tiny.py'}:Tiny")
    assert model.apply(variables, np.zeros((2, 8, 8, 1)), train=False).shape == (2, 10)


def test_the_api_pages_have_every_module():
    pages = "\n".join(path.read_text() for path in (ROOT / "docs/api").glob("*.md"))
    shown = set(re.findall(r"^::: ([\w.]+)$", pages, re.MULTILINE))
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if public_definitions_exist(path)
    }
    assert shown == modules


def public_definitions_exist(path: Path) -> bool:
    return next(public_definitions(path), None) is not None


def test_the_exit_codes_are_all_documented():
    table = (ROOT / "docs/reliability.md").read_text().split("| exit code |")[1].split("\n\n")[0]
    codes = {
        int(code) for code in re.findall(r"\b\d+\b", "".join(re.findall(r"\n\|([^|]*)\|", table)))
    }
    signals = {EXIT_SIGNAL + number for number in ASKING}
    assert codes == {0, EXIT_FAILED, EXIT_USAGE, *signals}


@pytest.mark.parametrize("document", documents(), **names)
def test_lines_of_inspect_are_taken_as_they_stand(document):
    """Options that exclude each other stand in lines of their own, comments included."""
    for line in document.read_text().splitlines():
        if line.startswith("python -m flaxlab.inspect"):
            options = re.findall(r"--(?:stats|plot|verify|diff)\b", line)
            assert len(options) <= 1, line


def test_the_citation_is_of_this_version():
    """By the fields that CFF 1.2.0 requires of a file, and its names for them."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["cff-version"] == "1.2.0"
    assert cited["message"]
    what = project["description"]
    assert cited["title"] == f"flaxlab: {what[0].lower()}{what[1:]}"
    assert cited["authors"] == [{"name": "The flaxlab authors"}]
    assert cited["license"] == project["license"]
    assert cited["version"] == project["version"] == flaxlab.__version__
