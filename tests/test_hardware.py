"""What a process may use of its machine, and what decides how it rounds."""

import os
import sys

import pytest

from flaxlab import hardware
from flaxlab.hardware import available_cores, available_memory, describe_machine
from tests.helpers.processes import run_code


def control_groups(root, lines, limits):
    """Writes files as Linux has them: the groups of this process, and the limits of groups."""
    for path, text in {"proc/self/cgroup": lines, **limits}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    return root


def test_the_memory_of_a_process_is_the_narrowest_limit_around_it(tmp_path):
    machine = available_memory(tmp_path)
    assert machine == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    second = control_groups(
        tmp_path / "2",
        "0::/slurm/job_7/step_0",
        {
            "sys/fs/cgroup/memory.max": "5",  # never of the root itself, but of a container's
            "sys/fs/cgroup/slurm/memory.max": "max",
            "sys/fs/cgroup/slurm/job_7/memory.max": "1000",
            "sys/fs/cgroup/slurm/job_7/step_0/memory.max": "max",
        },
    )
    assert available_memory(second) == 5
    (second / "sys/fs/cgroup/memory.max").unlink()
    assert available_memory(second) == 1000
    first = control_groups(
        tmp_path / "1",
        "3:cpuset:/other\n4:cpu,memory:/docker/7\n0::/",
        {
            # In a container its own group stands at the root.
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000",
            "sys/fs/cgroup/cpuset/other/memory.limit_in_bytes": "1",
        },
    )
    assert available_memory(first) == 2000
    (first / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text("9223372036854771712")
    assert available_memory(first) == machine


# The gradient of a convolution's filters by Winograd's algorithm, in VGG's second block.
PRODUCT = """
import hashlib, os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
import flaxlab, jax, numpy as np
from jax import lax
drawn = np.random.default_rng(0).standard_normal((2, 36, 1024, 128), np.float32)
product = jax.jit(lambda a, b: lax.dot_general(a, b, (((1,), (1,)), ((0,), (0,)))))(*drawn)
print(hashlib.sha256(np.asarray(product)).hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are chosen as on Linux")
def test_a_product_has_the_same_bits_on_one_core_as_on_two_with_as_many_threads():
    ended = [run_code(PRODUCT, cores, environment={"NPROC": "2"}) for cores in (1, 2)]
    assert [each.code for each in ended] == [0, 0], ended
    assert ended[0].shown == ended[1].shown


THREADS = """
import pathlib
import flaxlab, jax
from flaxlab.hardware import xla_threads
jax.numpy.ones(2)
names = [file.read_text().strip() for file in pathlib.Path("/proc/self/task").glob("*/comm")]
print(names.count("tf_XLAEigen"), xla_threads(jax.local_device_count()))
"""
EIGHT = "--xla_force_host_platform_device_count=8"


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted as on Linux")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"NPROC": "3"}, 3),
        ({"NPROC": "3", "PJRT_NPROC": "5"}, 5),
        ({"NPROC": "0"}, 1),
        ({"XLA_FLAGS": EIGHT, "NPROC": "2"}, 8),
    ],
)
def test_xla_has_as_many_threads_as_is_said(environment, expected):
    none = {"NPROC": None, "PJRT_NPROC": None, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    ended = run_code(THREADS, environment={**none, **environment})
    counted, said = map(int, ended.shown.split())
    assert counted == said == (expected or len(available_cores()))


@pytest.mark.parametrize(
    ("flags", "vectors"),
    [
        ("sse fma avx avx2", " (avx2)"),
        ("avx avx2 avx512f avx512_bf16", " (avx512)"),
        ("fp asimd sve", " (sve)"),
        ("fpu sse", ""),
    ],
)
def test_a_processor_is_told_from_one_of_its_name_with_other_vectors(monkeypatch, flags, vectors):
    told = {"model name": "AMD EPYC", "flags": flags}
    monkeypatch.setattr(hardware, "_cpu_information", lambda *keys: told[keys[0]])
    monkeypatch.setattr(hardware, "available_cores", lambda: frozenset({0, 1}))
    assert describe_machine() == f"2 cores of AMD EPYC{vectors}"
