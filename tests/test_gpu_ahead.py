"""What XLA makes of flaxlab's programs on an H100 that is not there, by JAX's CUDA plugin.

The plugin computes nothing and needs no GPU. It is used in processes of their own, so that this one
stays on the CPU, and with the flags of a user's run.
"""

import json
import os

import pytest

from benchmarks.gpu_ahead import all_experiments, plugin_installed
from benchmarks.hlo import Cost, bytes_of, read_module
from flaxlab import models
from flaxlab.config.find import experiment_file
from flaxlab.data.shape import resolve_config
from tests.helpers.processes import Process
from tests.helpers.runs import ROOT

needs_plugin = pytest.mark.skipif(
    not plugin_installed() and "AHEAD" not in os.environ,
    reason="nothing can be compiled for a GPU without jax-cuda12-pjrt: make ahead",
)

# Of a step and of the scores of the test split, as jaxlib 0.10.2 compiles them: GB moved, MB of
# temporaries.
COMPILED = {
    "alexnet_conv_dropout": ((1.727, 88.7), (15.71, 141.6)),
    "alexnet_default": ((1.705, 85.1), (15.71, 141.6)),
    "alexnet_l2": ((1.847, 170.7), (15.71, 141.6)),
    "alexnet_no_batchnorm": ((1.596, 72.1), (15.71, 141.6)),
    "alexnet_no_dropout": ((1.701, 84.6), (15.71, 141.6)),
    "alexnet_pool": ((2.047, 81.4), (18.65, 201.1)),
    "digits_small": ((0.00282, 0.42), (0.00859, 2.62)),
    "quickstart": ((1.825, 68.2), (0.96, 187.4)),
    "resnet20": ((1.625, 195.5), (34.89, 101.7)),
    "resnet20_wide": ((7.090, 824.4), (138.95, 419.8)),
    "strong_cifar": ((7.158, 830.6), (277.85, 822.4)),
    "strong_fashion": ((5.544, 639.7), (212.65, 633.7)),
    "vgg_deep_head": ((2.691, 149.8), (30.89, 327.3)),
    "vgg_default": ((3.026, 153.9), (30.47, 327.3)),
    "vgg_fashion": ((2.572, 159.0), (24.55, 264.4)),
    "vgg_growing_dropouts": ((3.044, 156.6), (30.47, 327.3)),
    "vgg_head_dropout04": ((3.026, 153.9), (30.47, 327.3)),
    "vgg_many_dropouts": ((3.036, 156.6), (30.47, 327.3)),
    "vgg_no_batchnorm": ((2.947, 148.6), (30.47, 327.3)),
    "vgg_no_batchnorm_no_dropout": ((2.937, 143.8), (30.47, 327.3)),
    "vgg_no_dropout": ((3.020, 151.2), (30.47, 327.3)),
}
# The same with batches of 512 in bfloat16.
COMPILED_LARGE = {
    "alexnet_pool": ((3.008, 347.6), (13.82, 107.4)),
    "vgg_default": ((5.240, 649.5), (20.45, 193.1)),
}
SLACK = 1.1

# Not of a layer: of each example, the gradient of the cross entropy picks the label's logit.
SMALL_SCATTER = "take_along_axis"


def compile_ahead(*commands):
    """Runs the benchmark with several lists of arguments at once.

    Returns:
        What it says of each experiment, by name.
    """
    own = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": None}
    benchmark = ["-m", "benchmarks.gpu_ahead", "--json"]
    processes = [Process(*benchmark, *each, cwd=ROOT, environment=own) for each in commands]
    found = {}
    for process in processes:
        ended = process.end()
        assert ended.code == 0, ended.errors
        found |= {each["experiment"]: each for each in map(json.loads, ended.shown.splitlines())}
    return found


def large_scatters(program):
    return [name for name in program["scatters"] if SMALL_SCATTER not in name]


def flop_of_programs(name):
    """The FLOP of a step and of the scores, as the layers' direct sums have them."""
    config = resolve_config(experiment_file(name, []), [])
    layers = models.layer_table(models.build(config.model, 10), config.data.image_shape)
    first, *others = (row.flops for row in layers if row.flops)
    # Nobody asks for the gradient of the images.
    step = config.train.batch_size * (2 * first + 3 * sum(others))
    batches = {"digits": 1}.get(config.data.name, 20) * (2 if config.data.test_flips else 1)
    return step, batches * 512 * (first + sum(others))


def check_size(program, compiled):
    gigabytes, megabytes = compiled
    # A part that the reader does not know would be missing.
    assert gigabytes / SLACK < program["bytes_moved"] / 1e9 < gigabytes * SLACK
    assert program["temporaries"] / 1e6 < megabytes * SLACK


@needs_plugin
def test_programs_scatter_nothing_large_wait_for_nobody_and_move_no_more_than_they_did():
    names = all_experiments()
    half = len(names) // 2  # networks of a family have programs in common
    found = compile_ahead(names[:half], names[half:])
    assert found.keys() == set(names) == COMPILED.keys()
    for name, sizes in COMPILED.items():
        programs = found[name]["training"], found[name]["evaluation"]
        assert programs[0]["donated"] == programs[0]["state"]
        for program, compiled, flop in zip(programs, sizes, flop_of_programs(name), strict=True):
            assert large_scatters(program) == []
            assert program["sorts"] == program["conditionals"] == program["all_reduces"] == 0
            check_size(program, compiled)
            if name == "vgg_fashion":  # of kernels of 3x3 on images of 1x1, one value counts
                assert 0.9 * flop < program["flop"] < flop
            else:
                assert program["flop"] == pytest.approx(flop, rel=1e-3)


@needs_plugin
def test_large_batches_in_bfloat16_scatter_nothing_large_and_move_no_more_than_they_did():
    large = ["--batch_size=512", "--dtype=bfloat16"]
    found = compile_ahead(*([name, *large] for name in COMPILED_LARGE))
    for name, sizes in COMPILED_LARGE.items():
        assert found[name]["training"]["donated"] == found[name]["training"]["state"]
        for part, compiled in zip(("training", "evaluation"), sizes, strict=True):
            program = found[name][part]
            assert large_scatters(program) == []
            assert program["sorts"] == program["conditionals"] == 0
            check_size(program, compiled)


@needs_plugin
@pytest.mark.parametrize("devices", [2, 8])
def test_gpus_share_a_batch_and_sum_over_it(devices):
    step = compile_ahead(["alexnet_pool", f"--devices={devices}"])["alexnet_pool"]["training"]
    assert step["all_reduces"] > 0
    assert large_scatters(step) == []
    assert (step["sorts"], step["conditionals"]) == (0, 0)
    assert step["donated"] == step["state"]
    assert step["flop"] == pytest.approx(flop_of_programs("alexnet_pool")[0] / devices, rel=1e-3)


@needs_plugin
def test_the_scatters_of_xlas_own_pooling_are_found():
    found = compile_ahead(["alexnet_pool", "--config.train.fast_kernels=false"])["alexnet_pool"]
    step, ((gigabytes, megabytes), _) = found["training"], COMPILED["alexnet_pool"]
    scattered = large_scatters(step)
    assert len(scattered) == 3
    assert all("/pool/select_and_scatter" in name for name in scattered)
    assert large_scatters(found["evaluation"]) == []
    assert step["bytes_moved"] / 1e9 > gigabytes * SLACK
    assert step["temporaries"] / 1e6 > megabytes * SLACK


@needs_plugin
def test_equal_bits_cost_one_small_sort_and_with_xlas_own_pooling_one_more_for_each_pool():
    equal_bits = "--config.train.deterministic=true"
    found = compile_ahead(
        ["alexnet_pool", equal_bits],
        ["digits_small", equal_bits, "--config.train.fast_kernels=false"],
    )
    step, scores = found["alexnet_pool"]["training"], found["alexnet_pool"]["evaluation"]
    assert large_scatters(step) == []
    assert (step["sorts"], len(step["scatters"]), scores["sorts"]) == (1, 1, 0)
    assert step["conditionals"] == scores["conditionals"] == 0
    for program, compiled in zip((step, scores), COMPILED["alexnet_pool"], strict=True):
        check_size(program, compiled)
    plain = found["digits_small"]["training"]
    assert len(large_scatters(plain)) == 2
    assert plain["sorts"] == 3


LOOP = """HloModule jit_f, is_scheduled=true

%gathered (param_0: u8[1000,4], param_1: s32[2,1]) -> u8[2,4] {
  %param_0 = u8[1000,4]{1,0} parameter(0)
  %param_1 = s32[2,1]{1,0} parameter(1)
  ROOT %gather.1 = u8[2,4]{1,0} gather(%param_0, %param_1), slice_sizes={1,4}
}

%product (p: bf16[2,3], q: bf16[3,5]) -> bf16[2,5] {
  %p = bf16[2,3]{1,0} parameter(0)
  %q = bf16[3,5]{1,0} parameter(1)
  ROOT %dot.1 = bf16[2,5]{1,0} dot(%p, %q), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (state: (s32[], bf16[2,3], /*index=2*/bf16[3,5])) -> (s32[], bf16[2,3], bf16[3,5]) {
  %state = (s32[], bf16[2,3]{1,0}, /*index=2*/bf16[3,5]{1,0}) parameter(0)
  %left = bf16[2,3]{1,0} get-tuple-element(%state), index=1
  %right = bf16[3,5]{1,0} get-tuple-element(%state), index=2
  %fusion.2 = bf16[2,5]{1,0} fusion(%left, %right), kind=kCustom, calls=%product
  ROOT %tuple.2 = (s32[], bf16[2,3]{1,0}, bf16[3,5]{1,0}) tuple(%state, %left, %right)
}

ENTRY %main (image: u8[1000,4], index: s32[2,1], grad: f32[8,6,6,5]) -> u8[2,4] {
  %image = u8[1000,4]{1,0} parameter(0)
  %index = s32[2,1]{1,0} parameter(1)
  %grad = f32[8,6,6,5]{3,2,1,0} parameter(2)
  %kernel = f32[5,3,3,7]{3,2,1,0} constant({...})
  %conv.1 = (f32[8,6,6,7]{3,2,1,0}, u8[0]{0}) custom-call(%grad, %kernel), window={size=3x3},\
 dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"
  %while.1 = (s32[], bf16[2,3]{1,0}, bf16[3,5]{1,0}) while(%index), condition=%less, body=%body,\
 backend_config={"known_trip_count":{"n":"20"}}
  ROOT %fusion.1 = u8[2,4]{1,0} fusion(%image, %index), kind=kLoop, calls=%gathered
}
"""


def test_costs_are_read_from_the_text_of_a_program():
    module = read_module(LOOP)
    pixels, features = 8 * 6 * 6, 5
    convolution = 4 * (pixels * features + features * 9 * 7 + pixels * 7)
    assert list(module.run()) == [
        (Cost(convolution, 2 * pixels * features * 9 * 7, "f32"), 1),
        (Cost(2 * (6 + 15 + 10), 2 * 2 * 3 * 5, "bf16"), 20),
        (Cost(8 + 8 + 8, 0, ""), 1),  # two rows of the images, two numbers, two rows written
    ]
    assert [each.name for each in module.find("gather", "dot")] == ["gather.1", "dot.1"]


def test_sizes_are_read_from_shapes():
    assert bytes_of("pred[3,2]{1,0}") == 6
    assert bytes_of("s32[]") == 4
    assert bytes_of("(f32[2,3]{1,0}, /*index=1*/bf16[5]{0}, u8[0]{0})") == 24 + 10


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        read_module("HloModule jit_f")
    with pytest.raises(ValueError, match=r"while\.1 has no fixed length"):
        list(read_module(LOOP.replace("known_trip_count", "unknown")).run())
