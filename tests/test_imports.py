"""Which modules import the large libraries: the README names the same."""

import ast
from pathlib import Path

import pytest

import flaxlab

PACKAGE = Path(flaxlab.__file__).parent


def importers(library):
    """Lists the modules of the package that import a library, anywhere in their code."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if library in [name.split(".")[0] for name in names]:
                found.add(path.relative_to(PACKAGE).as_posix())
    return found


@pytest.mark.parametrize(
    ("library", "pattern"),
    [
        ("orbax", "checkpoints/*.py"),
        ("tensorstore", "checkpoints/*.py"),
        ("tensorflow_datasets", "data/tfds_store.py"),
        ("grain", "batches/grain.py"),
        ("matplotlib", "pages/plots.py"),
        ("submitit", "suite/launchers/*.py"),
    ],
)
def test_large_libraries_have_their_place(library, pattern):
    allowed = set(PACKAGE.glob(pattern))
    if library == "matplotlib":
        allowed |= set(PACKAGE.rglob("pictures.py"))
    found = importers(library)
    assert found
    assert found <= {path.relative_to(PACKAGE).as_posix() for path in allowed}
