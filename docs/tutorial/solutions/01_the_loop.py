# %% [markdown]
# # Solutions to chapter 1

# %%
import functools

import jax
import numpy as np
import optax

from experiments import digits_small
from flaxlab import models
from flaxlab.batches.augment import scale_pixels
from flaxlab.batches.order import eval_batches, train_batches
from flaxlab.data.digits import load_digits
from flaxlab.training.metrics import means, no_metrics
from flaxlab.training.penalty import penalty
from flaxlab.training.state import create_state
from flaxlab.training.step import make_eval_step, make_train_step

digits = load_digits((8, 8, 1))
model = models.build(digits_small.get_config().model, num_classes=10)
preprocess = functools.partial(scale_pixels, scaling="unit")
eval_step = jax.jit(make_eval_step(model, preprocess))


def score(state):
    totals = no_metrics()
    for batch in eval_batches(digits.test, 32):
        totals += eval_step(state, batch)[0]
    return means(totals)["accuracy"]


def train(state, step, epochs):
    """Yields (state, metrics of the epoch) after each epoch."""
    for epoch in range(1, epochs + 1):
        totals = no_metrics()
        for batch in train_batches(digits.train, 32, seed=0, epoch=epoch):
            state, metrics = step(state, batch)
            totals += metrics
        yield state, means(totals)


# %% [markdown]
# ## 1. The best epoch
#
# Two lines: the test, and the assignment. Nothing is copied: both names stand for the same arrays,
# and no step will ever change them.

# %%
optimizer = optax.adam(1e-3, eps=1e-7)
step = jax.jit(make_train_step(model, optimizer, preprocess, lambda params: 0.0))
best, best_accuracy = None, 0.0
for state, _ in train(create_state(model, optimizer, (8, 8, 1), seed=0), step, epochs=4):
    accuracy = score(state)
    if accuracy > best_accuracy:
        best, best_accuracy = state, accuracy
print(f"best: {best_accuracy:.3f} after step {best.step}; last: {score(state):.3f}")
assert score(best) == best_accuracy >= score(state)

# %% [markdown]
# ## 2. Clipped gradients
#
# The optimizer is a value: another one goes into `make_train_step` and `create_state`, and no other
# line changes. `opt_state` is a pair now, of which the first part is empty: clipping keeps nothing.

# %%
clipping = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3, eps=1e-7))
clipped_step = jax.jit(make_train_step(model, clipping, preprocess, lambda params: 0.0))
clipped = create_state(model, clipping, (8, 8, 1), seed=0)
assert jax.tree.leaves(clipped.opt_state[0]) == []
assert jax.tree.structure(clipped.opt_state[1]) == jax.tree.structure(state.opt_state)
*_, (clipped, metrics) = train(clipped, clipped_step, epochs=2)
assert metrics["accuracy"] > 0.5

# %% [markdown]
# ## 3. Means of means
#
# The last of the 12 test batches has 8 examples, and counts like the others in a mean of means: an
# error there weighs four times as much. Sums and counts weigh every example alike.

# %%
batches = [eval_step(state, batch)[0] for batch in eval_batches(digits.test, 32)]
of_batches = np.mean([means(metrics)["accuracy"] for metrics in batches])
print(f"mean of batch accuracies {of_batches:.5f}, of examples {score(state):.5f}")
assert [int(metrics.count) for metrics in batches] == [32] * 11 + [8]
weights = [int(metrics.count) / 360 for metrics in batches]
by_hand = np.dot(weights, [means(metrics)["accuracy"] for metrics in batches])
assert np.isclose(by_hand, score(state))

# %% [markdown]
# ## 4. A penalty
#
# The loss stays the cross entropy; the penalty is reported beside it. It is added for each step, so
# `means` divides it by the number of steps.

# %%
penalize = functools.partial(penalty, l1=0.0, l2=0.01)
penalised_step = jax.jit(make_train_step(model, optimizer, preprocess, penalize))
start = create_state(model, optimizer, (8, 8, 1), seed=0)
(penalised, with_penalty), *_ = train(start, penalised_step, epochs=1)
(free, without), *_ = train(start, step, epochs=1)
print(f"penalty {with_penalty['penalty']:.3f} with it, {without['penalty']:.3f} without")
assert with_penalty["penalty"] > 0 == without["penalty"]
assert float(penalize(penalised.params)) < float(penalize(free.params))
