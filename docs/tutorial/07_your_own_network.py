# %% [markdown]
# # 7. A network of your own, and a suite about it
#
# flaxlab's AlexNet, VGG and ResNet are plain linen modules. So is any other: this chapter goes from
# a module of fifteen lines to a factorial suite that asks what two of its parts are worth, alone
# and together.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import flaxlab
from flaxlab import models
from flaxlab.compare.runs import find_runs
from flaxlab.config.read import load_experiment
from flaxlab.errors import UsageError
from flaxlab.main import main as run
from flaxlab.suite.__main__ import main as run_suite

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## The network and its experiment, in one file
#
# A network needs a field `num_classes` and a call with `train`. Its other fields have defaults, and
# become the knobs of the experiment. This one has two convolutions that a shortcut may skip, and a
# normalization that may be left out.

# %%
network = folder / "skipping.py"
network.write_text("""
import flax.linen as nn
from flaxlab.config import default_config


class Skipping(nn.Module):
    num_classes: int
    filters: int = 16
    depth: int = 8
    shortcut: bool = True
    normalized: bool = True

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(self.filters, (3, 3), strides=2)(images)
        for _ in range(self.depth):
            y = nn.Conv(self.filters, (3, 3))(x)
            if self.normalized:
                y = nn.BatchNorm(use_running_average=not train, momentum=0.9)(y)
            x = nn.relu(x + y if self.shortcut else y)
        return nn.Dense(self.num_classes, name="output")(x.mean((1, 2)))


def get_config():
    config = default_config(Skipping)
    config.data.name, config.data.image_shape = "digits", (8, 8, 1)
    config.train.epochs, config.train.batch_size = 4, 32
    config.log.tensorboard, config.log.progress = False, "none"
    return config
""")
config = load_experiment(network)
print(config.model)
assert config.model.depth == 8

# %% [markdown]
# The name of the network is its file and its class. Everything else is a knob like any other, with
# its type: a text where a number belongs is refused in one line, as is a name that no field has.

# %%
layers = models.layer_table(models.build(config.model, num_classes=10), (8, 8, 1))
for row in layers[:4]:
    print(f"{row.path:14} {row.kind:10} {row.shape!s:12} {row.trainable:6,}")
print(f"{models.count_trainable(layers):,} parameters in {len(layers)} layers")

# %% [markdown]
# ## A run, and what has to be said to read it
#
# The command is `python -m flaxlab.main --config=skipping.py`. What it leaves is a run like any
# other, with one difference: the network's code is yours, and flaxlab does not run code because a
# run directory asks for it. Name the file, and it compares its fingerprint with the run's.

# %%
run([f"--config={network}", f"--workdir={folder / 'run'}"])
try:
    flaxlab.load(folder / "run")
except UsageError as error:
    print(f"error: {error}")
model, variables, _ = flaxlab.load(folder / "run", model=f"{network}:Skipping")
logits = model.apply(variables, np.zeros((2, 8, 8, 1), np.float32), train=False)
assert logits.shape == (2, 10)

# %% [markdown]
# ## A suite: with and without each part
#
# Eight convolutions are enough for the two parts to matter. A factorial has an arm for each
# combination, here four, and every arm the same three seeds.

# %%
suite = folder / "parts.py"
suite.write_text("""
from flaxlab.suite.definition import Suite
from flaxlab.suite.designs import factorial


def get_suite():
    arms, factors = factorial({"model.shortcut": (True, False), "model.normalized": (True, False)})
    return Suite(name="parts", baseline="skipping", arms=arms, factors=factors, seeds=3)
""")
run_suite([f"--config={suite}", f"--workdir={folder / 'parts'}"])

# %% [markdown]
# The page `parts/comparison.html` has the verdicts; here are its means, and the table of effects.

# %%
runs, _ = find_runs([folder / "parts"])
accuracies: dict[str, list[float]] = {}
for each in runs:
    accuracies.setdefault(each.config.name, []).append(each.scores.accuracy)
for name, values in accuracies.items():
    print(f"{name:36} {np.mean(values):.3f}  {np.round(values, 3)}")
page = (folder / "parts/comparison.md").read_text()
print(page.partition("Effects and interactions")[2].partition("\n#")[0])
means = {name: np.mean(values) for name, values in accuracies.items()}
figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
for label, names in (
    ("with normalization", ("skipping", "shortcut=False")),
    ("without", ("normalized=False", "shortcut=False normalized=False")),
):
    axes.plot(["with shortcut", "without"], [means[name] for name in names], "o-", label=label)
axes.set_ylabel("test accuracy, mean of 3 seeds")
axes.legend(frameon=False)
plt.show()
assert abs(means["skipping"] - means["shortcut=False"]) < 0.05
assert means["normalized=False"] - means["shortcut=False normalized=False"] > 0.05

# %% [markdown]
# Were there no interaction, the lines would be parallel.
# With normalization the shortcut makes no difference that could be seen; without it, it is worth
# many points. Had you taken away one part at a time from the whole network, you would
# have called it useless. That is what a factorial is for, and why its table has a row for the
# interaction. Three seeds leave most of it undecided: the page says how many more are needed.

# %% [markdown]
# ## Exercises
#
# 1. Give the network a field `axis_name: str | None = None`, pass it to its normalizations, and
#    train it with `--config.train.parallel=pmap`. What does flaxlab say without the field?
# 2. Replace the boolean `normalized` by a text `norm` that `flaxlab.models.Norm` takes, and sweep
#    it.
# 3. Change one line of the network after the run, and start the same command with one more epoch.
#
# Solutions: [`solutions/07_your_own_network.py`](solutions/07_your_own_network.py)
