"""The setup of a process before it computes: a flag of XLA, huge pages, the compile cache."""

import importlib
import logging
import os
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest

from flaxlab import machine as machines
from flaxlab.files import cache_folder
from flaxlab.machine import (
    avoid_wrong_fusions,
    remove_cut_programs,
    skip_gpu_check_without_gpu,
    take_gpu_memory_as_needed,
)
from flaxlab.main import main as run
from flaxlab.suite.__main__ import main as run_suite
from tests.helpers.processes import HUGE_PAGES, Process, run_code, start
from tests.helpers.runs import ROOT, SMALL_POOL, SWEEP

SCRIPT = """
import os, sys
from flaxlab.machine import use_huge_pages
print("started")
use_huge_pages()
print(os.environ.get("GLIBC_TUNABLES"), *sys.argv[1:])
sys.exit(3)
"""


def run_script(tmp_path, **environment):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {"GLIBC_TUNABLES": None, "PYTHONPATH": str(ROOT), **environment}
    code, shown, errors = Process(
        "-W", "error", script, "--a=b c", "d", environment=environment
    ).end()
    assert code == 3, errors
    return shown.splitlines()


@pytest.mark.skipif(not HUGE_PAGES, reason="glibc or the kernel offers no huge pages")
def test_a_command_starts_again_once_with_its_arguments(tmp_path):
    setting = "glibc.malloc.hugetlb=1"
    assert run_script(tmp_path) == ["started", "started", f"{setting} --a=b c d"]
    added = run_script(tmp_path, GLIBC_TUNABLES="glibc.malloc.check=0")
    assert added[-1] == f"glibc.malloc.check=0:{setting} --a=b c d"


def test_the_users_own_setting_stays(tmp_path):
    setting = "glibc.malloc.hugetlb=0"
    assert run_script(tmp_path, GLIBC_TUNABLES=setting) == ["started", f"{setting} --a=b c d"]


def test_the_slow_imports_wait():
    heavy = "matplotlib tensorflow_datasets tensorboardX sklearn"
    code = f"import sys, flaxlab.run.run; print([m for m in '{heavy}'.split() if m in sys.modules])"
    assert run_code(code).shown.strip() == "[]"


# Without the folder that the tests share.
ITS_OWN = {"JAX_COMPILATION_CACHE_DIR": None, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": None}


def test_a_second_start_compiles_nothing(tmp_path):
    def compiled_after(workdir):
        options = ["--config.train.epochs=1", f"--workdir={workdir}"]
        ended = start("main", *SMALL_POOL, *options, environment=ITS_OWN).end()
        assert ended.code == 0, ended.errors
        (folder,) = (cache_folder() / "compiled").iterdir()
        programs = folder.glob("*-cache")
        return {(path.name, path.stat().st_ino) for path in programs}

    first = compiled_after(tmp_path / "first")
    assert any(name.startswith("jit_train") for name, _ in first)
    assert compiled_after(tmp_path / "second") == first


COMPILING = """
import jax
from flaxlab.command_line import prepare_process
from flaxlab.machine import keep_compiled_programs
prepare_process([])
keep_compiled_programs()
print(*(jax.jit(lambda x: x * 2 + number)(3.0) for number in range(3)))
"""


def compile_in_a_process(cache):
    """Compiles in a process; returns its stderr, and the programs that are then in the cache."""
    ended = run_code(COMPILING, environment={**ITS_OWN, "XDG_CACHE_HOME": str(cache)})
    assert ended.shown == "6.0 7.0 8.0\n"
    programs = sorted(cache.glob("flaxlab/compiled/*/*-cache"))
    written = {path: (path.stat().st_ino, path.read_bytes()) for path in programs}
    return ended.errors, written


def test_incomplete_compiled_programs_are_replaced_at_the_next_start(tmp_path):
    said, programs = compile_in_a_process(tmp_path)
    assert said == ""
    assert len(programs) >= 3
    first, second, *others = programs
    for cuts in ((0, 2), (50, -1)):
        whole = programs
        for path, left in zip((first, second), cuts, strict=True):
            path.write_bytes(whole[path][1][:left])
        said, programs = compile_in_a_process(tmp_path)
        assert said == "removed 2 incomplete compiled programs\n"
        assert programs.keys() == whole.keys()
        assert all(len(programs[path][1]) > 100 for path in (first, second))
        assert all(programs[path] == whole[path] for path in others)
    assert compile_in_a_process(tmp_path) == ("", programs)


def test_compiled_programs_that_were_checked_are_not_read_again(tmp_path, monkeypatch):
    _, programs = compile_in_a_process(tmp_path)
    folder = next(iter(programs)).parent
    remove_cut_programs(folder)
    strange = folder / "of_another_form-cache"
    strange.write_bytes(b"x\x9c not by zstd")
    read = []
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or b"x")
    remove_cut_programs(folder)
    assert read == [strange]
    assert {path.name for path in folder.iterdir()} >= {strange.name, "checked"}
    assert not list(folder.glob("checking*"))


COMPILING_A_STEP = """
import re
from pathlib import Path
from flaxlab import machine
import jax
from flaxlab.config.find import experiment_file
from flaxlab.data.shape import resolve_config
from flaxlab.models import build

def megabytes():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024

machine.return_compilers_memory()
machine._LONG_COMPILATION = 0
config = resolve_config(experiment_file("vgg_default", []), [])
model, key = build(config.model, 10), jax.random.key(0)
images = jax.ShapeDtypeStruct((8, *config.data.image_shape), "float32")
variables = jax.eval_shape(lambda x: model.init(key, x, train=False), images)
def loss(variables, images):
    rngs, mutable = {"dropout": key}, ["batch_stats"]
    return model.apply(variables, images, train=True, rngs=rngs, mutable=mutable)[0].sum()

lowered = jax.jit(jax.grad(loss)).lower(variables, images)
before = megabytes()
lowered.compile()
print(megabytes() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_long_compilation_keeps_little_memory():
    ended = run_code(COMPILING_A_STEP, environment={**ITS_OWN, "JAX_PLATFORMS": "cpu"})
    assert ended.code == 0, ended.errors
    assert int(ended.shown) < 100  # without it: 170


def test_a_run_without_a_writable_cache_goes_on(tmp_path):
    (tmp_path / "flaxlab").write_text("no folder")
    code = "from flaxlab.machine import keep_compiled_programs as k; import jax; k(); "
    code += "print(jax.config.values['jax_compilation_cache_dir'])"
    ended = run_code(code, environment={**ITS_OWN, "XDG_CACHE_HOME": str(tmp_path)})
    assert ended.shown.strip() == "None"
    assert "compiled programs are not kept" in ended.errors


DETERMINISTIC = """
import os, sys
from flaxlab.main import main
main(sys.argv[1:])
import jax
print(jax.default_backend(), "xla_gpu_deterministic_ops=true" in os.environ["XLA_FLAGS"])
"""


def test_deterministic_operations_are_asked_for_before_the_first_array(tmp_path):
    options = ["--config.train.epochs=1", "--config.train.deterministic=true"]
    arguments = [*SMALL_POOL, *options, f"--workdir={tmp_path}"]
    ended = run_code(DETERMINISTIC, *arguments, environment={"JAX_PLATFORMS": "cpu"})
    assert ended.code == 0, ended.errors
    assert ended.shown.splitlines()[-1] == "cpu True"


STARTED = """
import jax.numpy as jnp
from flaxlab.command_line import prepare_process
from flaxlab.machine import compute_deterministically
prepare_process([])
jnp.zeros(1)
compute_deterministically()
compute_deterministically()
"""


def test_deterministic_operations_that_come_too_late_are_not_promised():
    ended = run_code(STARTED, environment={"JAX_PLATFORMS": "cpu"})
    # The second run of a notebook has no more of a promise than the first.
    assert ended.errors.count("JAX had started before train.deterministic was read") == 2
    flags = "--xla_gpu_deterministic_ops=true"
    ended = run_code(STARTED, environment={"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags})
    assert "warning" not in ended.errors


@pytest.fixture
def memory_settings(monkeypatch):
    for variable in ("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.setenv(variable, "")  # so that it is restored
        monkeypatch.delenv(variable)


@pytest.mark.parametrize("name", ["evaluate", "explain", "export", "inspect", "predict", "rates"])
def test_commands_that_look_leave_the_memory_of_a_gpu_to_others(memory_settings, name):
    main = importlib.import_module(f"flaxlab.{name}.__main__").main
    with pytest.raises(SystemExit):
        main(["--help"])
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


@pytest.mark.parametrize("show", [["--show"], ["--show=config"]])
def test_so_does_a_look_at_a_run(memory_settings, capsys, show):
    run([*SMALL_POOL, *show])
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


@pytest.mark.parametrize("look", ["--show", "--plan=2"])
def test_so_does_a_look_at_a_suite(memory_settings, tmp_path, capsys, look):
    # Without a run, --plan has no spread of its own.
    spread = ["--spread=1"] if look != "--show" else []
    run_suite([*SWEEP, f"--workdir={tmp_path}", look, *spread])
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


def test_the_users_own_share_of_a_gpu_stands(monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.4")
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    take_gpu_memory_as_needed()
    assert "XLA_PYTHON_CLIENT_PREALLOCATE" not in os.environ


GPU_CHECK = "JAX_SKIP_CUDA_CONSTRAINTS_CHECK"


@pytest.mark.parametrize(
    ("file", "text", "checked"),
    [
        ("dev/nvidia-caps", "", False),  # which is no GPU
        ("dev/nvidiactl", "", True),
        ("dev/dxg", "", True),
        ("sys/bus/pci/devices/0000:00:04.0/vendor", "0x10de\n", True),  # its driver is missing
        ("sys/bus/pci/devices/0000:00:04.0/vendor", "0x8086\n", False),
    ],
)
def test_the_cuda_plugin_checks_its_libraries_where_there_may_be_a_gpu(
    tmp_path, monkeypatch, file, text, checked
):
    monkeypatch.setattr(os, "environ", {})
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    skip_gpu_check_without_gpu(tmp_path)
    assert (GPU_CHECK not in os.environ) == checked
    # What a machine without a GPU hands on, when it submits to a cluster, say.
    os.environ.clear()
    skip_gpu_check_without_gpu(tmp_path / "another machine")
    assert os.environ[GPU_CHECK]
    skip_gpu_check_without_gpu(tmp_path)
    assert (GPU_CHECK not in os.environ) == checked
    os.environ[GPU_CHECK] = ""  # JAX's word for off
    skip_gpu_check_without_gpu(tmp_path)
    assert os.environ == {GPU_CHECK: ""}


PLUGIN = f"""
import os

def initialize():
    if not os.environ.get("{GPU_CHECK}"):
        raise RuntimeError("Unable to load cuDNN. Is it installed?")
"""


def test_a_command_without_a_gpu_says_nothing_of_the_cuda_plugin(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {**os.environ, GPU_CHECK: ""})
    del os.environ[GPU_CHECK]
    skip_gpu_check_without_gpu()
    if GPU_CHECK not in os.environ:
        pytest.skip("this machine has an NVIDIA GPU")
    plugin = tmp_path / "jax_plugins/like_nvidias/__init__.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(PLUGIN)
    own = {"PYTHONPATH": f"{ROOT}:{tmp_path}", GPU_CHECK: None}
    code = "import jax; from flaxlab.command_line import run_command; {}"
    shout = run_code(code.format("jax.devices()"), environment=own)
    assert "Is it installed?" in shout.errors
    quiet = run_code(code.format("run_command(lambda _: jax.devices(), [])"), environment=own)
    assert (quiet.code, quiet.errors) == (0, "")


FLAG = "--xla_cpu_experimental_ynn_fusion_type"
THEIRS = "--xla_cpu_enable_fast_min_max=false"
SHOW = "import os, jax; jax.numpy.ones(2); print(os.environ['XLA_FLAGS'])"


def run_with_flags(code, flags):
    ended = run_code(code, environment={"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"})
    assert ended.code == 0, ended.errors
    return ended.shown.strip(), ended.errors.splitlines()


@pytest.mark.parametrize(
    ("imports", "given", "expected"),
    [
        ("flaxlab", "", f"{FLAG}=-reduce"),
        # JAX may have been imported: it reads its flags when it makes the first array.
        ("jax, flaxlab", THEIRS, f"{THEIRS} {FLAG}=-reduce"),
        ("flaxlab", f"{THEIRS} {FLAG}=-dot", f"{THEIRS} {FLAG}=-dot"),
    ],
)
def test_importing_flaxlab_sets_the_flag_beside_the_users_own(imports, given, expected):
    assert run_with_flags(f"import {imports}; {SHOW}", given) == (expected, [])


def test_importing_flaxlab_after_the_first_array_is_one_line():
    _, shown = run_with_flags("import jax; jax.numpy.ones(2); import flaxlab, flaxlab.main", "")
    (line,) = shown
    assert line.startswith("warning: JAX had started before flaxlab was imported")
    assert line.endswith(f"import flaxlab first, or set XLA_FLAGS={FLAG}=-reduce")
    # Its advice works.
    again = run_with_flags("import jax; jax.numpy.ones(2); import flaxlab", f"{FLAG}=-reduce")
    assert again == ("", [])


def test_the_flag_is_set_only_where_jaxlib_knows_it(tmp_path, monkeypatch, caplog):
    library = tmp_path / "libjax_common.so"
    jaxlib = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(machines.importlib.util, "find_spec", {"jaxlib": jaxlib}.get)
    monkeypatch.setenv("XLA_FLAGS", THEIRS)
    library.write_bytes(b"\0xla_cpu_enable_fast_min_max\0")
    avoid_wrong_fusions()
    assert os.environ["XLA_FLAGS"] == THEIRS
    with caplog.at_level(logging.ERROR, "flaxlab"):  # of course JAX runs in this process
        library.write_bytes(b"\0xla_cpu_enable_fast_min_max\0" + FLAG[2:].encode() + b"\0")
        avoid_wrong_fusions()
    assert os.environ["XLA_FLAGS"] == f"{THEIRS} {FLAG}=-reduce"
    assert caplog.text == ""
