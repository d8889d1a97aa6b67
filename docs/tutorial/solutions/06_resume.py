# %% [markdown]
# # Solutions to chapter 6

# %%
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np

from experiments import digits_small
from flaxlab.data.digits import load_digits
from flaxlab.errors import UsageError
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble

folder = Path(tempfile.mkdtemp())
digits = load_digits((8, 8, 1))


def experiment_with(epochs, schedule="constant", rate=1e-3, init_from=None):
    config = digits_small.get_config()
    config.train.epochs, config.train.init_from = epochs, init_from
    config.optimizer.schedule, config.optimizer.learning_rate = schedule, rate
    return assemble(config, digits)


def same_bits(a, b):
    equal = jax.tree.map(lambda x, y: bool((x == y).all()), a, b)
    return jax.tree.all(equal)


# %% [markdown]
# ## 1. More epochs
#
# With a constant learning rate it is the same run, to the bit: no step knows how many are to come.
# With the cosine schedule every rate depends on the length of the run, so flaxlab refuses.

# %%
train(experiment_with(2), folder / "longer")
longer = train(experiment_with(4), folder / "longer")
four = train(experiment_with(4), folder / "four")
assert same_bits(longer.state, four.state)

train(experiment_with(2, schedule="cosine"), folder / "cosine")
try:
    train(experiment_with(4, schedule="cosine"), folder / "cosine")
    refused = ""
except UsageError as error:
    refused = str(error)
print(refused)
assert "train.epochs: 2 there, 4 now" in refused

# %% [markdown]
# ## 2. Another learning rate
#
# It is refused before anything is written, and the message names the field and both values.

# %%
before = {path: path.read_bytes() for path in (folder / "four").rglob("*") if path.is_file()}
try:
    train(experiment_with(4, rate=0.1), folder / "four")
    refused = ""
except UsageError as error:
    refused = str(error)
print(refused)
assert "optimizer.learning_rate: 0.001 there, 0.1 now" in refused
after = {path: path.read_bytes() for path in (folder / "four").rglob("*") if path.is_file()}
assert before == after

# %% [markdown]
# ## 3. A warm start
#
# Parameters and running averages are taken over. The moments, the number of the step and the key
# are those of a new run: it sees the examples of epoch 1 again, with its own masks. It starts
# better than a run from nothing, but it is another one.

# %%
warm = train(experiment_with(1, init_from=str(folder / "four")), folder / "warm")
cold = train(experiment_with(1), folder / "cold")
first_losses = [result.history[0].train_loss for result in (warm, cold)]
print("loss in the first epoch, warm and cold:", np.round(first_losses, 3))
assert first_losses[0] < first_losses[1]
assert int(warm.state.step) == int(cold.state.step) == 45
assert not same_bits(warm.state.params, train(experiment_with(5), folder / "four").state.params)

# %%
shutil.rmtree(folder)
