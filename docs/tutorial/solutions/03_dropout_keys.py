# %% [markdown]
# # Solutions to chapter 3

# %%
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments import digits_small
from flaxlab.batches.order import train_batches
from flaxlab.data.digits import load_digits
from flaxlab.training.experiment import assemble

# %% [markdown]
# ## 1. Units that are never kept
#
# A unit is dropped in all rows of a mask of `B` rows with probability `0.5 ** B`: 0.25 units of 64
# with 8 rows, and none to speak of with 32. A reused key does less harm with large batches, and is
# found later.

# %%
layer = nn.Dropout(0.5, deterministic=False)


def never_kept(seed, rows):
    mask = layer.apply({}, jnp.ones((rows, 64)), rngs={"dropout": jax.random.key(seed)})
    return int((mask == 0).all(axis=0).sum())


for rows in (4, 8, 32):
    counted = np.mean([never_kept(seed, rows) for seed in range(100)])
    expected = 64 * 0.5**rows
    print(f"batches of {rows:2}: {expected:.2f} units expected, {counted:.2f} counted")
    # Three standard errors of a mean of 100 binomial counts.
    assert abs(counted - expected) <= 3 * np.sqrt(expected / 100) + 1e-9

# %% [markdown]
# ## 2. A resumed run
#
# The state is all there is: the key and the number of the step are in it.

# %%
experiment = assemble(digits_small.get_config(), load_digits((8, 8, 1)))
step = jax.jit(experiment.train_step)
batches = list(train_batches(experiment.splits.train, 32, seed=0, epoch=1))[:20]


@jax.jit
def dropout_key(state):
    return jax.random.key_data(jax.random.fold_in(state.key, state.step))


def run(state, batches):
    keys = []
    for batch in batches:
        keys.append(tuple(np.asarray(dropout_key(state)).tolist()))
        state, _ = step(state, batch)
    return state, keys


whole, keys = run(experiment.create_state(), batches)
half, first_keys = run(experiment.create_state(), batches[:10])
on_disk = jax.tree.map(
    lambda x: np.asarray(x) if x.dtype != half.key.dtype else np.asarray(jax.random.key_data(x)),
    half,
)
read = jax.tree.map(jnp.asarray, on_disk).replace(key=jax.random.wrap_key_data(on_disk.key))
resumed, more_keys = run(read, batches[10:])
assert first_keys + more_keys == keys
assert len(set(keys)) == 20
same = jax.tree.map(lambda a, b: bool((a == b).all()), resumed, whole)
assert jax.tree.all(same)

# %% [markdown]
# ## 3. A chain of splits
#
# The key itself changes in each step, so it has to be saved with the state; the number of the step
# is not enough. And the key of step 1,000 is only known after 1,000 splits. With `fold_in` it is
# one call, of step 1,000 alone.

# %%
key = jax.random.key(0)
for _ in range(1000):
    key, step_key = jax.random.split(key)
direct = jax.random.fold_in(jax.random.key(0), 999)
print(
    "by 1,000 splits:",
    jax.random.key_data(step_key),
    "by one fold_in:",
    jax.random.key_data(direct),
)
assert (jax.random.key_data(step_key) != jax.random.key_data(direct)).any()
