# %% [markdown]
# # 4. One step, five transformations
#
# The step is a pure function, so JAX can transform it: compile it, loop over it, map it over seeds,
# spread it over devices. In Keras each of these is a feature that somebody built into `fit`
# (`jit_compile`, `steps_per_execution`, `distribution`), or is not there (several seeds at once).
# Here each is one line around the same function, and the results must be equal. This chapter checks
# that they are.
#
# It needs two devices. A CPU can play several, if it is told so before JAX is imported:

# %%
import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
)

import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import digits_small
from flaxlab import models
from flaxlab.batches.augment import scale_pixels
from flaxlab.batches.order import train_batches
from flaxlab.batches.pmap import shard_batches
from flaxlab.data.digits import load_digits
from flaxlab.training.experiment import assemble
from flaxlab.training.step import make_train_step

print(jax.devices())
assert len(jax.devices()) == 2

# %% [markdown]
# The function, and the batches of one epoch. The optimizer is plain SGD, so that "equal" can be
# tested sharply: results differ by rounding, since sums are taken in another order, and Adam
# divides a gradient by its own size, which makes a whole step even of one that is 0 but for
# rounding.

# %%
config = digits_small.get_config()
config.optimizer.name, config.optimizer.learning_rate, config.optimizer.momentum = "sgd", 0.1, 0.0
experiment = assemble(config, load_digits((8, 8, 1)))
train_step = experiment.train_step
batches = list(train_batches(experiment.splits.train, 32, seed=0, epoch=1))  # 45
start = experiment.create_state()


def largest_difference(a, b):
    """Over all parameters and running averages of two states."""
    pairs = zip(*(jax.tree.leaves((s.params, s.batch_stats)) for s in (a, b)), strict=True)
    return max(float(jnp.abs(x - y).max()) for x, y in pairs)


# %% [markdown]
# ## 1. `jit`
#
# Without it, Python calls each operation by itself. `jit` runs the Python code *once*, with
# stand-ins for the arrays, writes down what it does to them, and compiles that. From the second
# call on, no line of `train_step` is executed by Python, which is easy to see: let the function
# say when it is.

# %%
traced_for = []


def talking_step(state, batch):
    traced_for.append(batch["image"].shape)
    return train_step(state, batch)


compiled_step = jax.jit(talking_step)
one_by_one, seconds = start, []
for batch in batches:
    started = time.perf_counter()
    one_by_one, metrics = jax.block_until_ready(compiled_step(one_by_one, batch))
    seconds.append(time.perf_counter() - started)
print(f"the first step took {seconds[0]:.2f} s, the last {1000 * seconds[-1]:.1f} ms")
print(f"Python ran the function {len(traced_for)} time in {len(batches)} steps")
assert traced_for == [(32, 8, 8, 1)]

# %% [markdown]
# A batch of another shape is another program, and is compiled again (`lower` does the first half of
# it). This is why flaxlab fills up the last batch of an epoch, and masks out what it has added: one
# shape, one program.

# %%
half = {name: array[:16] for name, array in batches[0].items()}
compiled_step.lower(start, half)
assert traced_for == [(32, 8, 8, 1), (16, 8, 8, 1)]

# %% [markdown]
# ## 2. `scan`
#
# `jax.lax.scan(step, state, batches)` is the loop itself, inside the program: the host is not
# asked between the steps. `step` has to have exactly the form that ours has, `(carry, x) -> (carry,
# y)`. Keras calls it `steps_per_execution`, and so does flaxlab's config.

# %%
stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *batches)  # leaves (45, 32, ...)
run_epoch = jax.jit(lambda state, batches: jax.lax.scan(train_step, state, batches))
scanned, metrics = run_epoch(start, stacked)
print("metrics of all steps, stacked:", metrics.loss.shape)
print(f"scan differs from the loop by {largest_difference(scanned, one_by_one):.1e}")
assert int(scanned.step) == 45
assert largest_difference(scanned, one_by_one) < 2e-5

# %% [markdown]
# ## 3. `vmap` over seeds
#
# A state is a tree of arrays, so four states are one tree whose arrays have a leading axis of 4.
# `vmap` makes a function of one state a function of the four; `in_axes=(0, None)` says that the
# states have that axis and the batch has not. Transformations compose: below, `scan` runs over
# `vmap` of the step, inside `jit`.

# %%
states = [experiment.with_seed(seed).create_state() for seed in range(4)]
four_states = jax.tree.map(lambda *arrays: jnp.stack(arrays), *states)
step_of_four = jax.vmap(train_step, in_axes=(0, None))
run_four = jax.jit(lambda states, batches: jax.lax.scan(step_of_four, states, batches))
four_after, metrics = run_four(four_states, stacked)
first_of_four = jax.tree.map(lambda array: array[0], four_after)
print(
    f"seed 0 of 4 differs from seed 0 alone by {largest_difference(first_of_four, one_by_one):.1e}"
)
assert metrics.loss.shape == (45, 4)
assert largest_difference(first_of_four, one_by_one) < 2e-5

# %%
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
axes.plot(metrics.loss / metrics.count, linewidth=1)
_ = axes.set(xlabel="step", ylabel="training loss", title="four seeds, one program")

# %% [markdown]
# Whether it is *faster* is another question. On a CPU, mapping a convolution over its weights
# makes it a grouped one, which is slower than the seeds one after the other; flaxlab's suites run
# them so, with one compiled program for all.
#
# ## 4. `pmap`
#
# The older way to use several devices: the program runs on each of them, on a part of the batch,
# and you say where they talk to each other. In the step that is two places: gradients are summed
# over the devices (`axis_name` of `make_train_step`), and batch normalization averages its
# statistics over them (`axis_name` of the model). The states and the batches get a leading device
# axis.
#
# Dropout needs the axis of the model as well: drawn with the same key on both devices, a mask
# would be the same for both halves of the batch. flaxlab's dropout draws the mask of the whole
# batch on each device, and takes the device's own part of it.


# %%
def step_over(step_axis, model_axis):
    """The step that adds up over an axis, of a model that knows it or, with None, does not."""
    model = models.build(config.model, 10, axis_name=model_axis)
    return make_train_step(
        model,
        experiment.optimizer,
        preprocess=lambda images: scale_pixels(images, "unit"),
        penalty=lambda params: 0.0,
        axis_name=step_axis,
    )


def run_on_two(step):
    """The states of both devices after the epoch."""
    spread = jax.tree.map(lambda array: jnp.stack([array, array]), start)
    mapped = jax.pmap(step, axis_name="devices")
    for batch in shard_batches(batches, devices=2):  # images (2, 16, 8, 8, 1)
        spread, _ = mapped(spread, batch)
    return [jax.tree.map(lambda array, i=i: array[i], spread) for i in range(2)]


left, right = run_on_two(step_over("devices", "devices"))
print(f"two devices differ from one by {largest_difference(left, one_by_one):.1e}")
assert largest_difference(left, one_by_one) < 2e-5
assert largest_difference(left, right) == 0

# %% [markdown]
# Forget the axis in the model, and each device normalizes by its own 16 images and drops the same
# places of its half as the other. The gradients are still summed, so the parameters stay the same
# on both devices and nothing looks wrong. But it is not the same training any more, and the running
# averages of the devices drift apart:

# %%
wrong_left, wrong_right = run_on_two(step_over("devices", None))
print(f"without axis_name in the model: {largest_difference(wrong_left, one_by_one):.1e} from one,")
print(f"and {largest_difference(wrong_left, wrong_right):.1e} between the two")
assert largest_difference(wrong_left, one_by_one) > 1e-2
assert largest_difference(wrong_left, wrong_right) > 1e-2

# %% [markdown]
# ## 5. Sharding
#
# The newer way needs no axis and no other step. You say where the *arrays* lie: the batch is cut
# along its first axis, the state is everywhere. `jit` compiles the same function for them, and adds
# the communication where the arithmetic asks for it. A mean over the batch is a mean over the whole
# batch, wherever its images lie, so batch normalization is right by itself, and so is dropout.

# %%
mesh = Mesh(np.array(jax.devices()), ("data",))
cut = NamedSharding(mesh, PartitionSpec("data"))
everywhere = NamedSharding(mesh, PartitionSpec())
sharded = jax.device_put(start, everywhere)
sharded_step = jax.jit(train_step)
for batch in batches:
    sharded, _ = sharded_step(sharded, jax.device_put(batch, cut))
for shard in jax.device_put(batches[0], cut)["image"].addressable_shards:
    print(shard.device, "has images", shard.data.shape)
print(f"sharded differs from one device by {largest_difference(sharded, one_by_one):.1e}")
assert largest_difference(sharded, one_by_one) < 2e-5

# %% [markdown]
# ## In one picture
#
# What is equal, and what is not. The dashed line is the rounding of a float32 of size 1, which 45
# steps may add up; a difference of 0 is drawn as 1e-9.

# %%
differences = {
    "scan": largest_difference(scanned, one_by_one),
    "vmap, seed 0": largest_difference(first_of_four, one_by_one),
    "pmap": largest_difference(left, one_by_one),
    "pmap, model without axis": largest_difference(wrong_left, one_by_one),
    "sharding": largest_difference(sharded, one_by_one),
}
figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
colours = ["#D55E00" if value > 1e-3 else "#0072B2" for value in differences.values()]
axes.barh(list(differences), [max(value, 1e-9) for value in differences.values()], color=colours)
axes.axvline(np.finfo(np.float32).eps, color="#595959", linestyle="--")
axes.set(xscale="log", xlabel="largest difference after 45 steps")
axes.invert_yaxis()

# %% [markdown]
# ## Exercises
#
# 1. `jax.jit(train_step, donate_argnums=0)` lets the program reuse the memory of the old state for
#    the new one, as flaxlab's loop does. What does it do to the old state, and to chapter 1's
#    `best = state`? How would you keep the best state?
# 2. `vmap` over learning rates: `optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)` puts the
#    rate into the optimizer's state. Train four rates in one program.
# 3. Cut a batch of 31 images over two devices. What do `pmap` and sharding say, and what does
#    flaxlab do in order that it never happens?
#
# Solutions: [`solutions/04_one_step_five_ways.py`](solutions/04_one_step_five_ways.py)
