# %% [markdown]
# # 8. From a notebook
#
# The chapters before this one took a run apart. Here it is whole: five functions of `flaxlab` do
# what the commands do, and their results show themselves in a notebook. You need nothing else to
# train a network of flaxlab's on images of your own.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import flaxlab
from flaxlab.errors import UsageError

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A config and a run
#
# `configure` reads an experiment, by its name or from its file, and changes fields by their dotted
# paths. What it returns may be changed further: it is checked again when the run begins.

# %%
config = flaxlab.configure("digits_small", **{"train.epochs": 2, "log.tensorboard": False})
config.optimizer.learning_rate = 2e-3
run = flaxlab.fit(config, folder / "run")

# %% [markdown]
# A run is its directory. `run` alone in a cell shows its numbers and curves, and `run.report()` the
# whole page. For pictures of your own, `run.history` has a row for each epoch, and so has
# `pandas.DataFrame(run.history)`.

# %%
for row in run.history:
    print(f"epoch {row.epoch}: {row.train_loss:.3f} in training, {row.val_loss:.3f} in validation")
scores = run.evaluate()
hardest = min(scores["classes"], key=lambda name: scores["classes"][name]["f1"])
print(f"{scores['accuracy']:.1%} of {scores['examples']} digits; the hardest is {hardest}")
assert scores["accuracy"] == run.history[-1].val_accuracy
assert int(run.state.step) == run.summary["steps"]

# %% [markdown]
# ## Again, and changed
#
# Cells are run again, in any order. A finished run is found and not trained again. One with another
# config is refused, with the line that the command would print. More epochs are no other run: it
# goes on. An interrupted cell does the same when you run it again.

# %%
assert flaxlab.fit(config, folder / "run") == run
try:
    flaxlab.fit(flaxlab.configure(config, seed=1), folder / "run")
except UsageError as error:
    print(f"refused: {error}")
first = run.history
config.train.epochs = 3
assert flaxlab.fit(config, folder / "run").history[:2] == first

# %% [markdown]
# ## Images of your own
#
# Any NumPy arrays will do: uint8, or floats in [0, 1], of any size. These are noisy waves of 12 by
# 15 pixels, of five directions.


# %%
def waves(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.integers(5, size=count)
    angles, phases = np.pi * labels / 5, rng.uniform(0, 2 * np.pi, count)
    rows, columns = np.mgrid[:12, :15]
    across = np.multiply.outer(np.cos(angles), columns) + np.multiply.outer(np.sin(angles), rows)
    noisy = np.sin(1.2 * across + phases[:, None, None]) + rng.normal(0, 1.7, (count, 12, 15))
    return np.clip(0.5 + 0.15 * noisy, 0, 1), labels


rng = np.random.default_rng(0)
(x, y), (x_test, y_test) = waves(2000, rng), waves(400, rng)
names = [f"{36 * k} degrees" for k in range(5)]
own = flaxlab.fit(config, folder / "waves", data=(x, y, x_test, y_test), class_names=names)
assert own.config.data.image_shape == (12, 15, 1)
assert own.summary["final_val_accuracy"] > 0.6

# %% [markdown]
# The lines above say what became of the floats, and the run records a fingerprint of the arrays:
# it goes on only with the same ones. Of which image is the network least certain?

# %%
chances = own.predict(x_test)
doubtful = np.argsort(chances.max(axis=1))[:4]
figure, axes = plt.subplots(1, 4, figsize=(9, 2.7), layout="constrained")
for each, number in zip(axes, doubtful, strict=True):
    best, second = np.argsort(-chances[number])[:2]
    each.imshow(x_test[number], cmap="gray", vmin=0, vmax=1)
    each.set_title(
        f"{names[best]} {chances[number, best]:.0%}\n{names[second]} {chances[number, second]:.0%}"
        f"\ntrue: {names[y_test[number]]}",
        fontsize=9,
    )
    each.set_axis_off()
plt.show()
assert (chances.argmax(axis=1) == y_test).mean() == own.evaluate()["accuracy"]

# %% [markdown]
# ## Exercises
#
# 1. Save the arrays by `np.savez` and train on the file, `data.name=npz`. Which numbers are the
#    same as those of the run on the arrays?
# 2. Set a thousand epochs, and interrupt the cell after a second (Kernel, Interrupt). How many
#    epochs does `flaxlab.open_run` find? Go on for one more.
# 3. Is the learning rate of this chapter better than the experiment's own? Ask `flaxlab.run_suite`
#    with a sweep and two seeds, and read the verdict.
#
# Solutions: [`solutions/08_from_a_notebook.py`](solutions/08_from_a_notebook.py)
