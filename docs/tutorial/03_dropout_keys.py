# %% [markdown]
# # 3. Dropout keys
#
# Keras has a generator that lives somewhere in the program: each dropout layer asks it for numbers,
# and it moves on. Which mask a step draws depends on everything that was drawn before it.
#
# JAX has no generator. A random function takes a *key*, and the same key gives the same numbers,
# always. Whoever calls must bring a fresh key each time: this chapter shows how flaxlab makes one
# out of two numbers, and what happens if a key is used twice.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from experiments import digits_small
from flaxlab.batches.augment import scale_pixels
from flaxlab.batches.order import train_batches
from flaxlab.data.digits import load_digits
from flaxlab.models.dropout import Dropout
from flaxlab.training.experiment import assemble

# %% [markdown]
# ## Keys
#
# A key is a value. `split` makes several of one, `fold_in` makes one of a key and a number. Neither
# changes the key that it is given.

# %%
key = jax.random.key(0)
first, again = jax.random.uniform(key, 3), jax.random.uniform(key, 3)
other = jax.random.uniform(jax.random.fold_in(key, 1), 3)
print("the same key:", first, again)
print("another key: ", other)
assert (first == again).all()
assert not (first == other).any()

# %% [markdown]
# ## The key of a step
#
# The state of a run holds one key that never changes. Step `n` uses `fold_in(key, n)`. Flax folds
# the name of each layer in as well, so that no two layers draw the same mask from it.
#
# To see the masks, look at what leaves the dropout layer of the head. Its units are tanh, which is
# never exactly 0, so the zeros are what was dropped.

# %%
experiment = assemble(digits_small.get_config(), load_digits((8, 8, 1)))
model, splits = experiment.model, experiment.splits
state = experiment.create_state()
batch = next(train_batches(splits.train, 4, seed=0, epoch=1))


@jax.jit
def kept_units(state, batch):
    """Which units of the head the step at `state` keeps: bool (images, 64)."""
    _, changed = model.apply(
        {"params": state.params, "batch_stats": state.batch_stats},
        scale_pixels(batch["image"], "unit"),
        train=True,
        rngs={"dropout": jax.random.fold_in(state.key, state.step)},
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=lambda module, method: isinstance(module, Dropout),
    )
    (dropped,) = changed["intermediates"]["head1"]["dropout"]["__call__"]
    return dropped != 0


masks = [kept_units(state.replace(step=jnp.int32(step)), batch) for step in range(6)]
print("share of units kept in each step:", *(f"{float(mask.mean()):.2f}" for mask in masks))

# %%
figure, axes = plt.subplots(2, 3, figsize=(8, 1.8), layout="constrained")
for step, (place, mask) in enumerate(zip(axes.flat, masks, strict=True)):
    place.imshow(mask, cmap="Greys_r", aspect="auto")
    place.set(title=f"step {step}", xticks=[], yticks=[])

# %% [markdown]
# Six steps, six masks: a row is an image, a column a unit, black is dropped. And step 3 has this
# mask whether or not steps 0 to 2 have been run before: all that it takes is the key and the number
# 3. A run that is stopped after step 2 and started again has only to know these two, and its next
# mask is the one that it would have had. That is half of exact resuming; [chapter 6](06_resume.py)
# has the other half.

# %%
assert not (masks[2] == masks[3]).all()
assert (masks[3] == kept_units(state.replace(step=jnp.int32(3)), batch)).all()
assert all(0.4 < float(mask.mean()) < 0.6 for mask in masks)

# %% [markdown]
# ## A key that is used twice
#
# Now a step that makes the usual mistake: the same key each time. Here it is flaxlab's step, told
# that it is always step 0. Batches of 4 images make the consequence easy to see.

# %%
right_step = jax.jit(experiment.train_step)


@jax.jit
def reusing_step(state, batch):
    after, metrics = experiment.train_step(state.replace(step=jnp.zeros_like(state.step)), batch)
    return after.replace(step=state.step + 1), metrics


def train_one_epoch(step, state):
    losses = []
    for batch in train_batches(splits.train, 4, seed=0, epoch=1):
        state, metrics = step(state, batch)
        losses.append(metrics.loss / metrics.count)
    return state, np.array(losses)


right, right_losses = train_one_epoch(right_step, state)
reused, reused_losses = train_one_epoch(reusing_step, state)

# %% [markdown]
# The loss says nothing. With the reused key it may even fall faster: the network is trained on
# 4 masks in place of 1,440, which is an easier task.

# %%
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
for losses, colour, name in (
    (right_losses, "#0072B2", "a key for each step"),
    (reused_losses, "#D55E00", "the same key"),
):
    smooth = np.convolve(losses, np.ones(30) / 30, mode="valid")
    axes.plot(smooth, color=colour, label=name)
axes.set(xlabel="step", ylabel="training loss, mean of 30 steps")
_ = axes.legend(frameon=False)

# %% [markdown]
# Look at the weights instead. With 4 images and a rate of 0.5, a unit is dropped in all 4 rows of
# the one mask with probability 1/16: of 64 units, about 4. Such a unit never takes part. Its
# weights get no gradient in any step, and are at the end what they were at the beginning, bit for
# bit:

# %%
never_kept = ~kept_units(state, batch).any(axis=0)


def untouched(after):
    """Which units of the head have all the weights that they were drawn with: bool (64,)."""
    same = jax.tree.map(lambda a, b: a == b, after.params, state.params)
    incoming = same["head1"]["dense"]["kernel"].all(axis=0)
    return incoming & same["output"]["kernel"].all(axis=1)


print(f"dropped in every step: units {np.flatnonzero(never_kept)}")
print(f"never trained, same key:  units {np.flatnonzero(untouched(reused))}")
print(f"never trained, right keys: {int(untouched(right).sum())} units")
assert never_kept.sum() > 0
assert (untouched(reused) == never_kept).all()
assert not untouched(right).any()

# %% [markdown]
# In evaluation mode nothing is dropped, and these units speak with the weights that they were
# drawn with. No exception, no curve that looks wrong: a smaller network than you believe, with
# noise added to its answers. This is why flaxlab leaves nobody the choice: the key of a step is
# made inside the step, out of the state.
#
# ## The same key in two places
#
# Dropout at evaluation time can be used to ask a network how sure it is: predict several times
# with different masks, and look at the spread (Gal and Ghahramani, 2016). With one key for all of
# them, the answer is always "certain".


# %%
@jax.jit
def predict(key):
    logits, _ = model.apply(
        {"params": right.params, "batch_stats": right.batch_stats},
        scale_pixels(splits.validation.images[:100], "unit"),
        train=True,
        rngs={"dropout": key},
        mutable=["batch_stats"],
    )
    return jax.nn.softmax(logits).max(axis=1)


with_keys = jnp.stack([predict(jax.random.fold_in(key, number)) for number in range(20)])
with_one = jnp.stack([predict(key) for number in range(20)])
print(f"spread over 20 predictions: {float(with_keys.std(axis=0).mean()):.3f} with 20 keys,")
print(f"                            {float(with_one.std(axis=0).mean()):.3f} with one key")
assert with_keys.std(axis=0).mean() > 0.01
assert jnp.ptp(with_one, axis=0).max() == 0

# %% [markdown]
# ## What else is random
#
# The initial values: `key(seed)` is split in two, one half draws them and the other is
# `state.key`. The order of the examples: a function of seed and epoch (`epoch_order`). Nothing
# else. So a run of flaxlab is determined by its config, of which the seed is a field.
#
# ## Exercises
#
# 1. With a reused key and batches of 8, how many of the 64 units do you expect never to be kept?
#    With 32? Count them for some seeds, and compare.
# 2. A resumed run: run 10 steps, keep nothing but the state, and go on for 10 more. Show that the
#    masks are those of 20 steps in one go.
# 3. `jax.random.split` in the loop, `key, step_key = jax.random.split(key)`, is the other usual
#    way. What must be saved in order to go on from step 1,000 with it? And what is the key of step
#    1,000 for somebody who wants to look at that step alone?
#
# Solutions: [`solutions/03_dropout_keys.py`](solutions/03_dropout_keys.py)
