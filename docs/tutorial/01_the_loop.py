# %% [markdown]
# # 1. From `model.fit` to `state, metrics = step(state, batch)`
#
# In Keras, training is two calls:
#
# ```python
# model.compile(optimizer="adam", loss=SparseCategoricalCrossentropy(from_logits=True))
# model.fit(x, y, batch_size=32, epochs=5, validation_data=(x_test, y_test))
# ```
#
# Each of the 225 steps inside `fit` changes five things: the weights, the moving averages of
# batch normalization, Adam's moments, the step counter, and the state of a random generator. They
# lie in five places, and `fit` changes them where they lie.
#
# A functional training loop does the same work in the open. There is **one value**, the state, that
# holds all five. And there is **one function**, the step, that makes the next state out of it:
#
# ```python
# state, metrics = step(state, batch)
# ```
#
# It changes nothing that it is given. All that you will see in this tutorial (compiling the step,
# running several seeds in one program, spreading it over devices, stopping a run and going on with
# the same bits) works because of that one line.
#
# This chapter is a complete program: data, network, step, loop, scores and a picture, in 60 lines.
# Run it as it is (`python docs/tutorial/01_the_loop.py`), or as a notebook (`make notebooks`).

# %%
import jax
import matplotlib.pyplot as plt
import optax

from experiments import digits_small
from flaxlab import models
from flaxlab.batches.order import eval_batches, train_batches
from flaxlab.data.digits import load_digits
from flaxlab.training.metrics import means, no_metrics
from flaxlab.training.state import create_state
from flaxlab.training.step import make_eval_step, make_train_step

# %% [markdown]
# ## The network is a description
#
# A Keras layer owns its weights. A Flax module owns nothing: it is a description of a computation,
# such as "a convolution with 16 filters". Like a number, it can be copied and compared, and using
# it never changes it.

# %%
digits = load_digits((8, 8, 1))  # 1,437 training and 360 test images, uint8
model = models.build(digits_small.get_config().model, num_classes=10)
optimizer = optax.adam(1e-3, eps=1e-7)  # Keras's epsilon; Optax's own is 1e-8

# %% [markdown]
# ## The state is everything that changes
#
# `create_state` draws the initial values of a seed. These are the five things that `fit` hides.
# The state is a *pytree*, a tree of arrays: `jax.tree` walks over it as it walks over nested lists
# and dicts.

# %%
state = create_state(model, optimizer, digits.image_shape, seed=0)
for name, tree in vars(state).items():
    arrays = jax.tree.leaves(tree)
    print(f"{name:12}{len(arrays):3} arrays{sum(array.size for array in arrays):8,} values")

# %% [markdown]
# The random key stands among them, and the optimizer keeps its moments here and not in itself:
# `optimizer` is a pair of functions.
#
# ## The step, written out
#
# A step is a forward pass, a gradient, an update. Three things differ from what you know:
#
# - **`model.apply` is given the parameters** and what batch normalization keeps. With
#   `mutable=["batch_stats"]` it returns, beside the logits, the averages as they are afterwards
#   ([chapter 2](02_batch_statistics.py)).
# - **Dropout is given a key.** It is made of the run's key and the number of the step, so each
#   step has a key of its own, and the same one whenever it is run ([chapter
#   3](03_dropout_keys.py)).
# - **`jax.grad` is a function of a function.** There is no tape: `jax.grad(loss_fn)` is the
#   function that computes the gradient of `loss_fn`. `has_aux` lets `loss_fn` return something
#   beside the loss.


# %%
def step_by_hand(state, batch):
    def loss_fn(params):
        logits, changed = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            batch["image"] / 255,
            train=True,
            rngs={"dropout": jax.random.fold_in(state.key, state.step)},
            mutable=["batch_stats"],
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return losses.mean(), changed["batch_stats"]

    grads, batch_stats = jax.grad(loss_fn, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    new = {"params": params, "batch_stats": batch_stats, "opt_state": opt_state}
    return state.replace(step=state.step + 1, **new)


# %% [markdown]
# That is all. flaxlab's own step is this one, with a penalty on the weights if you want one, with
# metrics, and with a mask for the examples that only fill up the last batch. `make_train_step`
# builds it from a network, an optimizer, and two functions. Do the two agree?

# %%
train_step = jax.jit(make_train_step(model, optimizer, lambda x: x / 255, lambda p: 0.0))
eval_step = jax.jit(make_eval_step(model, lambda x: x / 255))
batch = next(train_batches(digits.train, 32, seed=0, epoch=1))
ours, (theirs, _) = jax.jit(step_by_hand)(state, batch), train_step(state, batch)
agree = jax.tree.map(lambda a, b: bool(abs(a - b).max() < 1e-5), ours.params, theirs.params)
assert jax.tree.all(agree)

# %% [markdown]
# ## The loop
#
# And this is `fit`: for each batch a step, for each epoch a score and a row. flaxlab's own, in
# `flaxlab/training/loop.py`, has the same lines and calls hooks between them, which show, save and
# stop. `train_batches` is a function as well: the order of the examples depends on the seed and the
# number of the epoch, and on nothing else. Metrics are sums and counts, which `+` adds up and
# `means` divides at the end. For the evaluation, the step is another function: running averages,
# no dropout, and no new state.

# %%
first, history = state, []
for epoch in range(1, 6):
    trained, scored = no_metrics(), no_metrics()
    for batch in train_batches(digits.train, 32, seed=0, epoch=epoch):
        state, metrics = train_step(state, batch)
        trained += metrics
    for batch in eval_batches(digits.test, 32):
        scored += eval_step(state, batch)[0]
    history.append((means(trained)["accuracy"], means(scored)["accuracy"]))
    print(f"epoch {epoch}: training {history[-1][0]:.3f}, test {history[-1][1]:.3f}")

# %%
figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
axes.plot(range(1, 6), history, "o-", label=["training (with dropout)", "test"])
axes.set(xlabel="epoch", ylabel="accuracy", xticks=range(1, 6))
_ = axes.legend(frameon=False)

# %% [markdown]
# ## What the old state is worth
#
# In Keras, the weights before training are gone when `fit` returns. Here, `first` is a value that
# nobody has changed: 225 steps later it is still there, untrained, and still a valid argument.

# %%
whole = next(eval_batches(digits.test, batch_size=360))
untrained = means(eval_step(first, whole)[0])["accuracy"]
print(f"step {first.step}: {untrained:.3f}, step {state.step}: {history[-1][1]:.3f}")
assert (int(first.step), int(state.step)) == (0, 225)
assert untrained < 0.5 < history[-1][1]

# %% [markdown]
# So "keep the best epoch" is `best = state`, "go back" is `state = best`, and "train two networks
# from the same start" is two loops from `first`. None of them needs a callback.
#
# ## Exercises
#
# 1. Keep the state of the epoch with the highest test accuracy, and check at the end that it
#    scores what it scored then. How many lines does it take?
# 2. Clip the gradients to a global norm of 1: `optax.chain(optax.clip_by_global_norm(1.0), ...)`.
#    What else has to change? Look at the state's `opt_state` before and after.
# 3. `train_batches` gives a mask, since 1,437 is no multiple of 32. Average the accuracies of the
#    test batches, and compare with sums and counts. Why do they differ, and which one is right?
# 4. Add an L2 penalty of 0.01: give `make_train_step` the function
#    `lambda params: penalty(params, l1=0.0, l2=0.01)` from `flaxlab.training.penalty`. Where
#    does it show in the metrics?
#
# Solutions: [`solutions/01_the_loop.py`](solutions/01_the_loop.py)
