"""Compiles the programs of experiments for a GPU that is not there, and reads what they would do.

    python -m benchmarks.gpu_ahead                                  # all experiments
    python -m benchmarks.gpu_ahead alexnet_pool vgg_default --batch_size=512 --dtype=bfloat16
    python -m benchmarks.gpu_ahead alexnet_pool --config.train.fast_kernels=false

XLA's part for CUDA must be installed (jax-cuda12-pjrt, of jaxlib's version; `make ahead` does it;
none of NVIDIA's libraries is needed), and benchmarks/h100.txtpb describes the GPU. Two programs of
an experiment are compiled, data resident: one step of training, which a run on a GPU takes in a
loop, and the scoring of the whole test split. Of the data set, only the sizes are real.

Nothing is measured. "Predicted" is a roofline: for each instruction, the larger of its bytes by 3.0
TB/s and its FLOP by 400 TFLOP/s in float32 (by TensorFloat-32) or 790 in bfloat16, which are rates
that large copies and products reach on an H100; and the sum of that. No launch takes time in it, no
convolution is slower than a product, and no array stays in the cache. Without a GPU, XLA also
chooses the algorithms of products and convolutions without trying them.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from benchmarks.hlo import Cost, read_module
from benchmarks.noise import draw_dataset
from flaxlab import kernels
from flaxlab.batches.devices import AXIS, Devices
from flaxlab.batches.feed import Batches
from flaxlab.batches.run_feeds import scoring_batch
from flaxlab.command_line import CommandParser, positive_number, run_command
from flaxlab.config.find import experiment_file, own_experiments
from flaxlab.data.shape import resolve_config
from flaxlab.errors import UsageError
from flaxlab.training.experiment import assemble
from flaxlab.training.metrics import no_metrics
from flaxlab.training.programs import compile_programs

_DESCRIPTION = Path(__file__).with_name("h100.txtpb")
_BYTES_A_SECOND = 3.0e12
_FLOP_A_SECOND = {"f32": 400e12, "bf16": 790e12}

# Examples of the training split and of the test split.
_SPLITS = {"fashion_mnist": (60_000, 10_000), "cifar10": (50_000, 10_000), "digits": (1437, 360)}


@dataclass(frozen=True)
class Program:
    """What one call of a compiled program would do on each GPU.

    Attributes:
        kernels: instructions that run, in all rounds of a loop; each is at least one kernel.
        scatters: for each scatter, the function of the source that it comes from.
        sorts: number of sorts.
        conditionals: number of branches, at which a GPU waits for the host.
        all_reduces: number of sums over the GPUs.
        bytes_moved: of the operands and results of all instructions.
        flop: of products and convolutions.
        temporaries: bytes of memory beside arguments and results.
        arguments: bytes of the arguments.
        state: bytes of the training state, one of the arguments.
        donated: bytes of the arguments whose memory the results take.
        predicted: seconds of the roofline; see the top of this file.
    """

    kernels: int
    scatters: tuple[str, ...]
    sorts: int
    conditionals: int
    all_reduces: int
    bytes_moved: int
    flop: int
    temporaries: int
    arguments: int
    state: int
    donated: int
    predicted: float


@dataclass(frozen=True)
class Compiled:
    """The two programs of an experiment.

    Attributes:
        experiment: its name.
        batch_size: examples of a training step, on all GPUs together.
        dtype: in which the model computes.
        devices: number of GPUs.
        training: one step.
        evaluation: the scores of the whole test split, in one call.
    """

    experiment: str
    batch_size: int
    dtype: str
    devices: int
    training: Program
    evaluation: Program


def compile_ahead(
    experiment: str, overrides: Sequence[str], devices: int, known: dict[str, Program]
) -> Compiled:
    """Compiles an experiment for GPUs that are not there.

    Args:
        experiment: name of one of flaxlab's own, on a data set whose sizes are known here.
        overrides: "--config.a.b=value" each.
        devices: number of GPUs that share a batch.
        known: what is known of programs, by their text; what is found out here is added.

    Raises:
        UsageError: the CUDA plugin is not installed, the sizes of the data set are not known here,
            or see `resolve_config`.
    """
    described = describe_devices(devices)
    # The steps are assembled on the one CPU, and compiled for the GPUs.
    one = "--config.train.devices=1"
    config = resolve_config(experiment_file(experiment, []), [*overrides, one])
    if config.data.name not in _SPLITS:
        raise UsageError(f"config.data.name is {config.data.name}; expected {', '.join(_SPLITS)}")
    size = config.train.batch_size
    computed_by = kernels.for_backend("gpu", config.train.fast_kernels)
    assembled = assemble(config, draw_dataset(config, size), computed_by)
    programs = compile_programs(assembled, described)
    state, totals = (
        _placed(jax.eval_shape(make), described) for make in (assembled.create_state, no_metrics)
    )
    trained, tested = _SPLITS[config.data.name]
    scored = scoring_batch(size)
    image = tuple(config.data.image_shape)
    # What `flaxlab.machine.compute_deterministically` asks of a run, for these two programs alone.
    options = {"xla_gpu_deterministic_ops": bool(config.train.deterministic)}
    train = resident_batches(trained, image, 1, size, described)
    test = resident_batches(tested, image, -(-tested // scored), scored, described)

    def read(program: Any, batches: Batches) -> Program:
        lowered = program.lower(state, totals, batches)
        text = f"{options} {lowered.as_text()}"
        if text not in known:
            known[text] = _program(lowered.compile(compiler_options=options), state)
        return known[text]

    trained_by, scored_by = read(programs.train, train), read(programs.evaluate, test)
    return Compiled(experiment, size, config.model.dtype, devices, trained_by, scored_by)


def plugin_installed() -> bool:
    """Returns whether JAX's CUDA plugin is there, for CUDA 12 or 13."""
    names = (f"jax_plugins.xla_cuda{version}" for version in (12, 13))
    return find_spec("jax_plugins") is not None and any(map(find_spec, names))


def describe_devices(count: int) -> Devices:
    """Returns `count` H100s that can be compiled for and nothing else.

    JAX's platform must be "cpu", or the plugin insists on NVIDIA's libraries.

    Raises:
        UsageError: the CUDA plugin is not installed.
    """
    if not plugin_installed():
        raise UsageError(
            "JAX's CUDA plugin is not installed, without which nothing can be compiled for a GPU;"
            f" pip install jax-cuda12-pjrt=={jax.__version__}, or make ahead"
        )
    described = topologies.get_topology_desc(
        "h100", "cuda", target_config=_DESCRIPTION.read_text(), topology=f"1x1x{count}"
    )
    return Devices(Mesh(np.array(described.devices), (AXIS,)))


def resident_batches(
    examples: int, image: tuple[int, ...], stacked: int, size: int, devices: Devices
) -> Batches:
    """Returns the shapes of `stacked` batches out of a split that lies on the devices."""
    split = {
        "image": jax.ShapeDtypeStruct((examples, *image), jnp.uint8),
        "label": jax.ShapeDtypeStruct((examples,), jnp.int32),
    }
    return {
        "index": jax.ShapeDtypeStruct((stacked, size), jnp.int32),
        "mask": jax.ShapeDtypeStruct((stacked, size), jnp.bool_),
        "resident": _placed(split, devices),
    }


def _placed(shapes: Any, devices: Devices) -> Any:
    def placed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=devices.replicated)

    return jax.tree.map(placed, shapes)


def _program(compiled: Any, state: Any) -> Program:
    module, memory = read_module(compiled.as_text()), compiled.memory_analysis()
    costs = list(module.run())
    return Program(
        kernels=sum(times for _, times in costs),
        scatters=tuple(each.op_name for each in module.find("scatter", "select-and-scatter")),
        sorts=len(module.find("sort")),
        conditionals=len(module.find("conditional")),
        all_reduces=len(module.find("all-reduce", "all-reduce-start")),
        bytes_moved=sum(cost.bytes_moved * times for cost, times in costs),
        flop=sum(cost.flop * times for cost, times in costs),
        temporaries=memory.temp_size_in_bytes,
        arguments=memory.argument_size_in_bytes,
        state=sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)),
        donated=memory.alias_size_in_bytes,
        predicted=sum(predicted_seconds(cost) * times for cost, times in costs),
    )


def predicted_seconds(cost: Cost) -> float:
    """Returns the seconds of the slower of memory and arithmetic."""
    computing = cost.flop / _FLOP_A_SECOND[cost.dtype] if cost.flop else 0.0
    return max(cost.bytes_moved / _BYTES_A_SECOND, computing)


def all_experiments() -> list[str]:
    """Returns the names of flaxlab's own experiments that `compile_ahead` can compile."""
    names = sorted(path.stem for path in own_experiments().glob("[!_]*.py"))
    modules = {name: importlib.import_module(f"experiments.{name}") for name in names}
    return [
        name
        for name, module in modules.items()
        if hasattr(module, "get_config") and module.get_config().data.name in _SPLITS
    ]


def figures(program: Program) -> dict[str, str]:
    """Returns the columns of the table and what a program has in them."""
    return {
        "kernels": str(program.kernels),
        "scatters": str(len(program.scatters)),
        "sorts": str(program.sorts),
        "conditionals": str(program.conditionals),
        "GB moved": f"{program.bytes_moved / 1e9:.2f}",
        "GFLOP": f"{program.flop / 1e9:,.1f}",
        "temporaries, MB": f"{program.temporaries / 1e6:,.0f}",
        "of the arguments donated": f"{program.donated / program.arguments:.0%}",
        "predicted, ms": f"{program.predicted * 1e3:.2f}",
    }


def main(arguments: Sequence[str]) -> None:
    """Compiles the experiments of the command line and prints a line for each program."""
    parser = CommandParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="none: all of them")
    parser.add_argument("--batch_size", type=positive_number, help="default: the experiment's")
    parser.add_argument("--dtype", help="float32 or bfloat16; default: the experiment's")
    parser.add_argument("--devices", type=positive_number, default=1, help="GPUs; default 1")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each experiment")
    options, overrides = parser.parse_known_args(arguments)
    given = {"train.batch_size": options.batch_size, "model.dtype": options.dtype}
    overrides += [f"--config.{path}={value}" for path, value in given.items() if value]
    # Else the plugin would ask for NVIDIA's libraries, and JAX for a GPU to compute with.
    jax.config.update("jax_platforms", "cpu")
    known: dict[str, Program] = {}  # arms of a suite often share the program of their scores
    for number, name in enumerate(options.experiments or all_experiments()):
        found = compile_ahead(name, overrides, options.devices, known)
        if options.json:
            print(json.dumps(dataclasses.asdict(found)), flush=True)
            continue
        if number == 0:
            columns = ["", *figures(found.training)]
            print(f"jax {jax.__version__}, {options.devices} x described H100\n")
            print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
        for what, program in (("step", found.training), ("scores", found.evaluation)):
            title = f"`{name}`, {found.batch_size}, {found.dtype}: {what}"
            print(f"| {' | '.join([title, *figures(program).values()])} |", flush=True)


if __name__ == "__main__":
    run_command(main, sys.argv[1:])
