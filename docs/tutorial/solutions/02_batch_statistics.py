# %% [markdown]
# # Solutions to chapter 2

# %%
import jax
import numpy as np

from experiments import digits_small
from flaxlab.batches.order import eval_batches, train_batches
from flaxlab.data.digits import load_digits
from flaxlab.evaluate.evaluation import recompute_statistics
from flaxlab.training.experiment import assemble
from flaxlab.training.metrics import means, no_metrics

digits = load_digits((8, 8, 1))


def digits_experiment(**model_fields):
    config = digits_small.get_config()
    config.model.update(model_fields)
    return assemble(config, digits)


def train(experiment, step, epochs, batch_size=32):
    state = experiment.create_state()
    for epoch in range(1, epochs + 1):
        totals = no_metrics()
        for batch in train_batches(digits.train, batch_size, seed=0, epoch=epoch):
            state, metrics = step(state, batch)
            totals += metrics
    return state, means(totals)


def score(experiment, state):
    eval_step, totals = jax.jit(experiment.eval_step), no_metrics()
    for batch in eval_batches(digits.test, 120):
        totals += eval_step(state, batch)[0]
    return means(totals)["accuracy"]


def repaired(experiment, state):
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    statistics = recompute_statistics(experiment.model, variables, digits.train, "unit", 120)
    return state.replace(batch_stats=statistics)


# %% [markdown]
# ## 1. Repaired without training
#
# The parameters were fine all along. With statistics that belong to them, the network is as good as
# one whose step did not forget.

# %%
experiment = digits_experiment()


@jax.jit
def forgetful_step(state, batch):
    after, metrics = experiment.train_step(state, batch)
    return after.replace(batch_stats=state.batch_stats), metrics


forgetful, _ = train(experiment, forgetful_step, epochs=5)
before, after = score(experiment, forgetful), score(experiment, repaired(experiment, forgetful))
print(f"test accuracy {before:.3f} as it was, {after:.3f} repaired")
assert after > 0.9 > before

# %% [markdown]
# ## 2. Momentum 0.99 for one epoch
#
# Both train alike. After 45 steps, 64% of what the slow averages hold is the 1 that they started
# from; the true variances are a fraction of it.

# %%
found = {}
for momentum in (0.9, 0.99):
    each = digits_experiment(batch_norm_momentum=momentum)
    state, training = train(each, jax.jit(each.train_step), epochs=1)
    kept = state.batch_stats["block1"]["norm"]["var"].mean()
    true = repaired(each, state).batch_stats["block1"]["norm"]["var"].mean()
    found[momentum] = training["accuracy"], score(each, state), float(kept), float(true)
    print(
        f"momentum {momentum}: training {found[momentum][0]:.3f}, test {found[momentum][1]:.3f},"
        f" variance {kept:.3f} kept, {true:.3f} recomputed"
    )
assert found[0.9][0] == found[0.99][0]
assert found[0.9][1] > found[0.99][1]
assert found[0.99][2] > 0.6
assert abs(found[0.9][2] - found[0.9][3]) < 0.05

# %% [markdown]
# ## 3. Batches of one image
#
# The head gives the same for every image, so the logits are a constant that training can only fit
# to the shares of the classes, which are nearly equal: the loss cannot fall below ln(10) = 2.303.

# %%
head = digits_experiment(head_norm="batch")
losses = {}
for size in (1, 4):
    _, losses[size] = train(head, jax.jit(head.train_step), epochs=1, batch_size=size)
    print(f"batches of {size}: training loss {losses[size]['loss']:.3f}")
assert losses[1]["loss"] > np.log(10) - 0.01
assert losses[1]["accuracy"] < 0.2
assert losses[4]["loss"] < 1.5
