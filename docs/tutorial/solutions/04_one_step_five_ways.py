# %% [markdown]
# # Solutions to chapter 4

# %%
import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
)

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import digits_small
from flaxlab.batches.augment import scale_pixels
from flaxlab.batches.order import train_batches
from flaxlab.batches.pmap import shard_batches
from flaxlab.data.digits import load_digits
from flaxlab.training.experiment import assemble
from flaxlab.training.state import create_state
from flaxlab.training.step import make_train_step

experiment = assemble(digits_small.get_config(), load_digits((8, 8, 1)))
batches = list(train_batches(experiment.splits.train, 32, seed=0, epoch=1))

# %% [markdown]
# ## 1. Donated memory
#
# The old state is deleted: its arrays exist, and their memory is gone. `best = state` would keep a
# name of nothing. A copy of its own helps, taken before the next step (flaxlab saves the best epoch
# to disk, and copies it first).

# %%
donating = jax.jit(experiment.train_step, donate_argnums=0)
state = experiment.create_state()
best, copied = state, jax.tree.map(jnp.copy, state)
state, _ = donating(state, batches[0])
assert all(leaf.is_deleted() for leaf in jax.tree.leaves(best.params))
try:
    print(best.step)
    refused = False
except RuntimeError as error:
    refused = True
    print(error)
assert refused
assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(copied))

# %% [markdown]
# ## 2. Four learning rates in one program
#
# The rate is an array in `opt_state` now, so it can have an axis of 4 like everything else there.
# Only the state that the rates differ in needs it to begin with; `vmap` wants all leaves to have
# it.

# %%
optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
step = make_train_step(
    experiment.model,
    optimizer,
    preprocess=lambda images: scale_pixels(images, "unit"),
    penalty=lambda params: 0.0,
)
rates = jnp.array([0.001, 0.01, 0.1, 1.0])


def with_rate(rate):
    state = create_state(experiment.model, optimizer, (8, 8, 1), seed=0)
    changed = {**state.opt_state.hyperparams, "learning_rate": rate}
    return state.replace(opt_state=state.opt_state._replace(hyperparams=changed))


states = jax.vmap(with_rate)(rates)
stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *batches)
together = jax.vmap(step, in_axes=(0, None))
_, metrics = jax.jit(lambda states: jax.lax.scan(together, states, stacked))(states)
losses = np.asarray(metrics.loss / metrics.count)  # (45 steps, 4 rates)
for rate, loss in zip(rates, losses[-5:].mean(axis=0), strict=True):
    print(f"rate {float(rate):5.3g}: loss of the last five steps {loss:.3f}")
# The first loss is before any step: the same for all.
assert np.ptp(losses[0]) < 1e-5
assert losses[-5:, 2].mean() < losses[-5:, 0].mean()

# %% [markdown]
# ## 3. 31 images on two devices
#
# Neither takes it. flaxlab never has such a batch: every batch has the batch size of the config,
# the last one filled up and masked.

# %%
odd = {name: array[:31] for name, array in batches[0].items()}
refusals = []
try:
    next(shard_batches([odd], devices=2))
except ValueError as error:
    refusals.append(f"shard_batches: {error}")
cut = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
try:
    jax.device_put(odd, cut)
except ValueError as error:
    refusals.append(f"device_put: {str(error).splitlines()[0][:90]}")
print(*refusals, sep="\n")
assert len(refusals) == 2
assert {len(batch["label"]) for batch in batches} == {32}
assert int(batches[-1]["mask"].sum()) == 1437 % 32
