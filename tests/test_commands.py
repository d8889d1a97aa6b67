"""The commands by name: `python -m flaxlab` and the console script `flaxlab`."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.helpers.processes import HUGE_PAGES

ROOT = Path(__file__).resolve().parents[1]
NAMES = {
    "compare",
    "data",
    "evaluate",
    "explain",
    "export",
    "inspect",
    "ledger",
    "main",
    "predict",
    "prepare",
    "rates",
    "suite",
}


def start(*command, cwd=ROOT):
    kept = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def console_script(folder):
    """Writes the script that pip makes of the entry point in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, function = project["scripts"]["flaxlab"].split(":")
    script = folder / "flaxlab"
    script.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    return script


def test_every_command_is_listed_with_what_its_module_says_it_does():
    done = start("-m", "flaxlab")
    assert (done.returncode, done.stderr) == (0, "")
    listed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[2:])
    assert listed.keys() == NAMES
    for name, text in listed.items():
        module = "flaxlab.main" if name == "main" else f"flaxlab.{name}.__main__"
        assert text == importlib.import_module(module).__doc__.splitlines()[0]


def test_the_list_is_made_without_importing_a_command_or_jax():
    code = (
        "import atexit, sys; from flaxlab.__main__ import main; sys.argv = ['flaxlab'];"
        "atexit.register(lambda: print(*sys.modules)); main()"
    )
    loaded = start("-c", code).stdout.splitlines()[-1].split()
    assert "flaxlab.__main__" in loaded
    assert not {"jax", "numpy", "rich", "flaxlab.main", "flaxlab.inspect"} & set(loaded)


def test_a_command_by_name_is_its_module(tmp_path):
    module = start("-m", "flaxlab.inspect", "x", "--stats", "--verify")
    assert module.returncode == 2
    assert "exclude each other" in module.stderr
    for program in (("-m", "flaxlab"), (console_script(tmp_path),)):
        named = start(*program, "inspect", "x", "--stats", "--verify")
        assert (named.returncode, named.stderr) == (module.returncode, module.stderr)
        told = start(*program, "inspect", "--help")
        assert told.returncode == 0
        assert told.stdout.startswith("usage: python -m flaxlab.inspect ")


@pytest.mark.parametrize(
    ("name", "hint"), [("inspekt", "did you mean inspect?"), ("xyzzy", "compare, data, evaluate")]
)
def test_an_unknown_command_gets_one_line(name, hint):
    done = start("-m", "flaxlab", name, "--stats")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: there is no command {name}; ")
    assert done.stderr.count("\n") == 1
    assert hint in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_enough_ends_a_command_without_a_traceback(unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    code = "from flaxlab.command_line import run_command; run_command(lambda _: print('text'), [])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_another_broken_pipe_is_no_reader_that_has_enough():
    code = "import os; from flaxlab.command_line import run_command; r, w = os.pipe(); os.close(r);"
    done = start("-c", f"{code} run_command(lambda _: os.write(w, b'text'), [])")
    assert "BrokenPipeError" in done.stderr


def test_the_console_script_starts_a_run_as_the_module_does(tmp_path):
    """With huge pages, and with the files of the current folder to import from."""
    (tmp_path / "beside.py").write_text("NAME = 'mine'\n")
    (tmp_path / "mine.py").write_text(
        "import os\n"
        "import beside\n"
        "from experiments import digits_small\n"
        "def get_config():\n"
        "    print('tunables:', os.environ.get('GLIBC_TUNABLES'))\n"
        "    return digits_small.get_config()\n"
    )
    (tmp_path / "bin").mkdir()
    script = console_script(tmp_path / "bin")
    options = ("--config=mine.py", "--show")
    named = start(script, "main", *options, cwd=tmp_path)
    module = start("-m", "flaxlab.main", *options, cwd=tmp_path)
    assert named.returncode == module.returncode == 0, named.stderr
    assert named.stdout == module.stdout
    assert ("tunables: glibc.malloc.hugetlb=1" in named.stdout) == HUGE_PAGES
