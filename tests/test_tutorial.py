"""The tutorial: each chapter and each solution runs, and what it asserts holds.

They run in processes of their own, as a reader runs them: of the settings of the test run they have
only the one that leaves machine code as it comes, since making it takes most of their time.
"""

import ast
import re

import jax
import jupytext
import nbformat
import pytest

from tests.helpers.processes import Process
from tests.helpers.runs import ROOT

TUTORIAL = ROOT / "docs/tutorial"
CHAPTERS = sorted(TUTORIAL.glob("*.py"))
SOLUTIONS = sorted(TUTORIAL.glob("solutions/*.py"))
names = {"ids": lambda path: path.relative_to(TUTORIAL).as_posix()}


@pytest.mark.parametrize("path", [*CHAPTERS, *SOLUTIONS], **names)
def test_it_runs_and_its_assertions_hold(path, tmp_path):
    environment = {
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "JAX_PLATFORMS": "cpu",
        "MPLBACKEND": "Agg",
        # XLA's threads, by default as many as cores: where all wait for another device, none is
        # left for it.
        "NPROC": "8",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    # Whoever reads it is shown no warning.
    options = {"cwd": tmp_path, "environment": environment}
    ended = Process("-W", "error::UserWarning", path, **options).end()
    assert ended.code == 0, ended.errors
    assert "warning: " not in ended.errors  # flaxlab's own
    assert list(tmp_path.iterdir()) == []


def test_there_are_eight_chapters_with_a_solution_each():
    assert len(CHAPTERS) == 8
    assert [path.name for path in CHAPTERS] == [path.name for path in SOLUTIONS]


@pytest.mark.parametrize("path", CHAPTERS, **names)
def test_each_exercise_has_a_solution(path):
    exercises = path.read_text().split("## Exercises")[1]
    asked = re.findall(r"^# (\d)\. ", exercises, re.MULTILINE)
    solved = (path.parent / "solutions" / path.name).read_text()
    assert asked == re.findall(r"^# ## (\d)\. ", solved, re.MULTILINE)
    assert len(asked) >= 3
    assert f"(solutions/{path.name})" in exercises


@pytest.mark.parametrize("path", CHAPTERS, **names)
def test_each_chapter_draws_and_asserts(path):
    code = [cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code"]
    assert sum("plt.subplots(" in cell for cell in code) >= 1
    assert sum(isinstance(node, ast.Assert) for node in ast.walk(ast.parse("\n".join(code)))) >= 2


def test_the_loop_is_sixty_lines():
    lines = [line.strip() for line in CHAPTERS[0].read_text().splitlines()]
    assert 40 < sum(bool(line) and not line.startswith("#") for line in lines) <= 60


@pytest.mark.parametrize("path", [*CHAPTERS, *SOLUTIONS], **names)
def test_it_makes_a_notebook(path, tmp_path):
    jupytext.write(jupytext.read(path), tmp_path / "chapter.ipynb")
    notebook = nbformat.read(tmp_path / "chapter.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# ")
    kinds = {cell.cell_type for cell in notebook.cells}
    assert kinds == {"markdown", "code"}
