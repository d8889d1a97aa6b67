"""What imports what: large libraries in their place, and every room only from those below it."""

import ast
import graphlib
from pathlib import Path

import pytest

import flaxlab
from docs.draw_house import DRAWING, FLOORS, GROUND, draw, imports, main_arrows

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
        ("pyarrow", "data/parquet.py"),
        ("matplotlib", "pages/*.py"),
        ("submitit", "suite/launchers/*.py"),
        ("wandb", "run/wandb_run.py"),
        ("mlflow", "run/mlflow_run.py"),
    ],
)
def test_large_libraries_have_their_place(library, pattern):
    allowed = set(PACKAGE.glob(pattern))
    if library == "matplotlib":
        allowed |= set(PACKAGE.rglob("*pictures.py"))
    found = importers(library)
    assert found
    assert found <= {path.relative_to(PACKAGE).as_posix() for path in allowed}


FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FLOOR |= dict.fromkeys(GROUND, len(FLOORS))


def test_every_room_has_a_floor():
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {room.split(".")[0] for room in FLOOR} - {"flaxlab"} == files | packages
    assert set(GROUND) < files


def test_every_room_imports_from_lower_floors_only():
    """So no package imports one that imports it, inside functions or at the top of a module."""
    found = imports()
    ground = {(a, b) for a, b in found if a in GROUND and b in GROUND}
    up = {(a, b) for a, b in found if FLOOR[a] >= FLOOR.get(b, -1)} - ground
    assert up == set(), {pair: found[pair] for pair in up}
    above = {room: {a for a, b in ground if b == room} for room in GROUND}
    assert len(list(graphlib.TopologicalSorter(above).static_order())) == len(GROUND)


def test_imports_are_found_wherever_code_runs_them(tmp_path):
    package = tmp_path / "flaxlab"
    (package / "run").mkdir(parents=True)
    (package / "data").mkdir()
    for path in ("__init__.py", "run/__init__.py", "data/__init__.py", "files.py", "errors.py"):
        (package / path).touch()
    (package / "run/resume.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "import numpy\n"
        "from flaxlab import files\n"
        "from flaxlab.run import report\n"
        "if TYPE_CHECKING:\n"
        "    from flaxlab.suite import plan\n"
        "def resume():\n"
        "    try:\n"
        "        from flaxlab.training.state import draw_state\n"
        "    finally:\n"
        "        import flaxlab.checkpoints.find\n"
    )
    (package / "data/__main__.py").write_text("from flaxlab.data import load\n")
    assert imports(package) == {
        ("run", "files"): {"flaxlab.run.resume"},
        ("run", "training"): {"flaxlab.run.resume"},
        ("run", "checkpoints"): {"flaxlab.run.resume"},
        ("data.__main__", "data"): {"flaxlab.data.__main__"},
    }


def test_the_drawing_of_the_house_is_that_of_its_imports():
    assert DRAWING.read_text() == draw(imports()), "python docs/draw_house.py draws it"


def test_an_arrow_is_left_out_where_a_longer_way_leads():
    pairs = [("run", "training"), ("training", "data"), ("run", "data"), ("data", "run")]
    assert main_arrows(pairs) == {("run", "training"), ("training", "data")}
