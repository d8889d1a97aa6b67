# %% [markdown]
# # 2. What batch normalization keeps
#
# Batch normalization is the layer that makes functional code look strange at first, because it does
# two jobs that contradict each other (Ioffe and Szegedy, 2015):
#
# - **In training** it normalizes each channel by the mean and variance *of the batch*, and keeps a
#   running average of them on the side.
# - **In evaluation** it normalizes by the *running averages*, so that what the network says of an
#   image does not depend on the images beside it.
#
# Keras has the averages in the layer (`moving_mean`, `moving_variance`) and updates them behind the
# back of your code. In Flax they are a second tree beside the parameters, and it is your step that
# carries them on. This chapter shows what is in that tree, how it moves, and what happens to a
# network whose step forgets it.

# %%
import flax
import jax
import matplotlib.pyplot as plt
import numpy as np

from experiments import digits_small
from flaxlab.batches.augment import scale_pixels
from flaxlab.batches.order import eval_batches, train_batches
from flaxlab.data.digits import load_digits
from flaxlab.run.advice import warnings
from flaxlab.training.experiment import assemble
from flaxlab.training.metrics import means, no_metrics

# All that chapter 1 put together by hand: model, optimizer, steps, as the config has them.
experiment = assemble(digits_small.get_config(), load_digits((8, 8, 1)))
model, splits = experiment.model, experiment.splits
state = experiment.create_state()
batch = next(train_batches(splits.train, 32, seed=0, epoch=1))
images = scale_pixels(batch["image"], "unit")

# %% [markdown]
# ## Two collections
#
# The variables of a Flax model are sorted into *collections*. `params` is what the optimizer
# changes. `batch_stats` is what batch normalization changes: two numbers a channel, which start at
# mean 0 and variance 1.

# %%
for path, array in jax.tree_util.tree_leaves_with_path(state.batch_stats):
    print(f"batch_stats{jax.tree_util.keystr(path):28} {array.shape!s:6} all {array[0]}")

# %% [markdown]
# ## Saying what may change
#
# A pure function cannot change its arguments, so in training mode Flax has to hand the new averages
# back. It does so only if you say which collections may change. If you do not, it refuses:

# %%
variables = {"params": state.params, "batch_stats": state.batch_stats}
rngs = {"dropout": state.key}
try:
    model.apply(variables, images, train=True, rngs=rngs)
    refused = False
except flax.errors.ModifyScopeVariableError as error:
    refused = True
    print(str(error).split(" (")[0])
assert refused

# %% [markdown]
# With `mutable=["batch_stats"]`, `apply` returns a pair: the logits, and the collections that
# changed. The old averages are still in `variables`.
#
# What has it computed? `capture_intermediates` shows the input of the first normalization, and the
# rule is one line, with the momentum of the config (0.9; Keras's default is 0.99):


# %%
@jax.jit
def forward(variables, images):
    return model.apply(
        variables,
        images,
        train=True,
        rngs=rngs,
        mutable=["batch_stats", "intermediates"],
        capture_intermediates=lambda module, method: module.name == "pool",
    )


logits, changed = forward(variables, images)
(pooled,) = changed["intermediates"]["block1"]["pool"]["__call__"]  # (32, 4, 4, 16)
old, new = state.batch_stats["block1"]["norm"], changed["batch_stats"]["block1"]["norm"]
mean, variance = pooled.mean(axis=(0, 1, 2)), pooled.var(axis=(0, 1, 2))
np.testing.assert_allclose(new["mean"], 0.9 * old["mean"] + 0.1 * mean, atol=1e-6)
np.testing.assert_allclose(new["var"], 0.9 * old["var"] + 0.1 * variance, atol=1e-6)
print(
    f"channel 0: variance of the batch {variance[0]:.4f},"
    f" running {old['var'][0]} -> {new['var'][0]:.4f}"
)

# %% [markdown]
# The variance of the batch is far below the 1 that the average starts from: with momentum 0.9, it
# takes some 50 steps to come down. Remember that number.
#
# ## Training mode depends on the neighbours
#
# The same image, with the same parameters, in two batches: in training mode the network says
# something else of it. In evaluation mode it cannot.

# %%
others = next(train_batches(splits.train, 32, seed=1, epoch=1))["image"]
neighbours = scale_pixels(np.concatenate([batch["image"][:1], others[1:]]), "unit")
without_dropout = model.clone(head_dropout=())


def logits_of_the_first(images, train):
    logits, _ = without_dropout.apply(variables, images, train=train, mutable=["batch_stats"])
    return logits[0]


moved = {
    mode: float(
        abs(logits_of_the_first(images, mode) - logits_of_the_first(neighbours, mode)).max()
    )
    for mode in (True, False)
}
print(
    f"the logits of one image move by {moved[True]:.3f} in training, {moved[False]} in evaluation"
)
assert moved[True] > 0.01
assert moved[False] == 0

# %% [markdown]
# ## A step that forgets
#
# Now the mistake that everyone makes once: the step throws the changed averages away. Nothing
# complains. We take flaxlab's step, and put the old averages back.

# %%
train_step = jax.jit(experiment.train_step)
eval_step = jax.jit(experiment.eval_step)


@jax.jit
def forgetful_step(state, batch):
    after, metrics = experiment.train_step(state, batch)
    return after.replace(batch_stats=state.batch_stats), metrics


def score(state):
    totals = no_metrics()
    for batch in eval_batches(splits.validation, 120):
        totals += eval_step(state, batch)[0]
    return means(totals)


def train(step, state, epochs=5, batch_size=32):
    """Returns the last state, and (training accuracy, test accuracy) of each epoch."""
    history = []
    for epoch in range(1, epochs + 1):
        totals = no_metrics()
        for batch in train_batches(splits.train, batch_size, seed=0, epoch=epoch):
            state, metrics = step(state, batch)
            totals += metrics
        history.append((means(totals)["accuracy"], score(state)["accuracy"]))
    return state, np.array(history)


kept_state, kept = train(train_step, state)
forgetful_state, forgot = train(forgetful_step, state)
print(f"kept:      training {kept[-1, 0]:.3f}, test {kept[-1, 1]:.3f}")
print(f"forgotten: training {forgot[-1, 0]:.3f}, test {forgot[-1, 1]:.3f}")

# %%
figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for history, colour, name in ((kept, "#0072B2", "kept"), (forgot, "#D55E00", "forgotten")):
    axes.plot(range(1, 6), history[:, 0], "--", color=colour, label=f"{name}: training")
    axes.plot(range(1, 6), history[:, 1], "o-", color=colour, label=f"{name}: test")
axes.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1), xticks=range(1, 6))
_ = axes.legend(frameon=False)

# %% [markdown]
# The two training curves are the same, to the last bit: in training mode the averages are written
# and never read. That is why the mistake does not show until you evaluate, and then it looks like
# overfitting, which it is not.

# %%
assert np.array_equal(kept[:, 0], forgot[:, 0])
assert kept[-1, 1] > 0.9
assert forgot[-1, 1] < kept[-1, 1] - 0.1

# %% [markdown]
# The parameters are as good as the others. They *are* the others:

# %%
same = jax.tree.map(lambda a, b: bool((a == b).all()), kept_state.params, forgetful_state.params)
assert jax.tree.all(same)

# %% [markdown]
# A momentum near 1 and a short run do the same to you without any mistake in the code: after `n`
# steps the averages still hold `momentum ** n` of the 1 that they started from. With Keras's 0.99,
# an epoch of 45 steps leaves 64% of it. flaxlab warns before such a run starts:

# %%
slow = digits_small.get_config()
slow.model.batch_norm_momentum, slow.train.epochs = 0.99, 1
warnings = warnings(assemble(slow, experiment.dataset))
print(*warnings)
assert "63.6% of its initial statistics" in warnings[0]

# %% [markdown]
# ## Small batches
#
# The mean of a batch is an estimate. How good it is depends on how many values it is made of, and
# that is not the number of images: the first normalization averages a channel over 4 x 4 positions
# of each image, the second over 2 x 2. A normalization in the dense head has one value an image.
#
# So we train the same network with a third normalization, in its head. Then we score the test
# images in training mode, in batches of several sizes, with each of the two: the parameters are
# those of the training, and only the statistics differ.

# %%
head_config = digits_small.get_config()
head_config.model.head_norm = "batch"
head_experiment = assemble(head_config, experiment.dataset)
head_state, _ = train(jax.jit(head_experiment.train_step), head_experiment.create_state())

order = np.random.default_rng(0).permutation(360)
test_images = scale_pixels(splits.validation.images[order], "unit")
test_labels = splits.validation.labels[order]


def score_by_batch(model, state, size):
    """Test accuracy with the statistics of batches of `size` images."""
    model = model.clone(head_dropout=())
    trained = {"params": state.params, "batch_stats": state.batch_stats}

    def predict(images):
        logits, _ = model.apply(trained, images, train=True, mutable=["batch_stats"])
        return logits.argmax(axis=1)

    batches = test_images.reshape(-1, size, 8, 8, 1)
    predicted = jax.jit(lambda batches: jax.lax.map(predict, batches))(batches)
    return float((predicted.ravel() == test_labels).mean())


sizes = (1, 2, 4, 8, 24, 120)
by_batch = {
    "blocks only": [score_by_batch(model, kept_state, size) for size in sizes],
    "blocks and head": [score_by_batch(head_experiment.model, head_state, size) for size in sizes],
}
for name, scores in by_batch.items():
    print(
        f"{name:16}", *(f"{size}: {value:.3f} " for size, value in zip(sizes, scores, strict=True))
    )

# %%
figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for (name, scores), colour in zip(by_batch.items(), ("#0072B2", "#D55E00"), strict=True):
    axes.semilogx(sizes, scores, "o-", color=colour, label=f"normalization in {name}")
axes.set(xlabel="images in a batch", ylabel="test accuracy", ylim=(0, 1))
axes.set_xticks(sizes, sizes)
axes.minorticks_off()
_ = axes.legend(frameon=False)

# %% [markdown]
# In the blocks, even one image has enough values. In the head, one image is its own mean, so what
# is left of each unit is exactly 0, whatever the image shows: the network guesses. With two, every
# unit is +1 or -1. This is what "batch normalization needs large batches" means, and why statistics
# have to be shared when a batch is spread over devices ([chapter 4](04_one_step_five_ways.py)).

# %%
assert by_batch["blocks only"][0] > 0.85
assert by_batch["blocks and head"][0] < 0.2
assert by_batch["blocks and head"][1] < by_batch["blocks and head"][-1] - 0.1
assert by_batch["blocks and head"][-1] > 0.9

# %% [markdown]
# ## Exercises
#
# 1. Repair the forgetful network without training it: `recompute_statistics` in
#    `flaxlab.evaluate.evaluation` computes mean and variance over the training images. What does
#    it score then?
# 2. Train one epoch with momentum 0.99 and with 0.9. Compare training and test accuracy, and the
#    running variances after it with those that `recompute_statistics` finds.
# 3. Train the network with `head_norm="batch"` for one epoch with batches of 1 image, then of 4.
#    What is the training loss with batches of 1, and could you have known it?
#
# Solutions: [`solutions/02_batch_statistics.py`](solutions/02_batch_statistics.py)
