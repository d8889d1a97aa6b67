# %% [markdown]
# # 6. Save, kill, resume, inspect
#
# The state is one value, and the next state is a function of it and of (seed, epoch). So whoever
# has the state and the config has the run: it can be killed at any moment and go on elsewhere, and
# it ends with the same bits as one that nobody has disturbed. This chapter kills one.

# %%
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import flaxlab
from experiments import digits_small
from flaxlab.data.digits import load_digits
from flaxlab.errors import UsageError
from flaxlab.inspect import __main__ as inspect
from flaxlab.run.load import load_stored
from flaxlab.run.run import train
from flaxlab.training.experiment import assemble

folder = Path(tempfile.mkdtemp())
run, undisturbed = folder / "run", folder / "undisturbed"
EPOCHS = 10

# %% [markdown]
# ## A run in a process of its own
#
# This is the command that you would type. Its history has a line for the header and one for each
# epoch that is done; when two are done, we send it a signal that no program can catch.

# %%
command = [sys.executable, "-m", "flaxlab.main", f"--config={digits_small.__file__}"]
command += [f"--workdir={run}", f"--config.train.epochs={EPOCHS}", "--config.log.progress=lines"]
history = run / "history.csv"
with (folder / "output.txt").open("w") as output:
    process = subprocess.Popen(command, stdout=output, stderr=output)
    while process.poll() is None:
        if history.exists() and len(history.read_text().splitlines()) > 2:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    code = process.wait()
print((folder / "output.txt").read_text())
print(f"exit code {code}")
assert code == -signal.SIGKILL

# %% [markdown]
# ## What it has left
#
# A checkpoint counts when its folder has its final name; a save that the kill interrupted is left
# under another one, and is not taken for a checkpoint. `python -m flaxlab.inspect` lists what is
# there, and reads no array for that.

# %%
inspect.main([str(run), "--filter=step|key|norm"])

# %% [markdown]
# The state of chapter 1 is all there: parameters, statistics, the moments of Adam, the number of
# the step, the key. What is *not* there are the masks, the order of the examples, or a generator's
# position in its sequence: they follow from what is there.
#
# ## Going on
#
# `train` looks for the latest checkpoint and goes on from it, in this process now, and not in the
# one that has died. Beside it, the same run without any disturbance.

# %%
config = digits_small.get_config()
config.train.epochs = EPOCHS
experiment = assemble(config, load_digits((8, 8, 1)))
done_before = load_stored(run, "latest").epoch
resumed = train(experiment, run)
whole = train(experiment, undisturbed, programs=resumed.programs)
print(f"went on after epoch {done_before} of {EPOCHS}, to step {resumed.state.step}")
assert 1 <= done_before < EPOCHS

# %% [markdown]
# Equal means equal: not nearly, but each bit of each array, Adam's moments included.


# %%
def bits(state):
    """All arrays of a state as bytes."""
    data = state.replace(key=jax.random.key_data(state.key))
    return [np.asarray(array).tobytes() for array in jax.tree.leaves(data)]


losses = [[row.train_loss for row in result.history] for result in (resumed, whole)]
print(f"{len(bits(whole.state))} arrays, all the same: {bits(resumed.state) == bits(whole.state)}")
assert bits(resumed.state) == bits(whole.state)
assert losses[0] == losses[1]

# %%
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
epochs = range(1, EPOCHS + 1)
axes.plot(epochs, losses[1], "o", color="#0072B2", markersize=9, label="undisturbed")
axes.plot(epochs, losses[0], ".-", color="#D55E00", label="killed and resumed")
axes.axvline(done_before + 0.5, color="#595959", linestyle=":", label="killed")
axes.set(xlabel="epoch", ylabel="training loss")
_ = axes.legend(frameon=False)

# %% [markdown]
# ## What must be saved
#
# Is all of it needed? Take Adam's moments away, as everybody does who saves "the weights" only, and
# train one step from each:

# %%
batch = {
    "image": experiment.splits.train.images[:32],
    "label": experiment.splits.train.labels[:32],
    "mask": np.ones(32, bool),
}
step = jax.jit(experiment.train_step)
fresh = whole.state.replace(opt_state=experiment.optimizer.init(whole.state.params))
with_moments, _ = step(whole.state, batch)
without_moments, _ = step(fresh, batch)
moved = jax.tree.map(
    lambda a, b: float(abs(a - b).max()), with_moments.params, without_moments.params
)
largest = max(jax.tree.leaves(moved))
print(f"after one step, parameters differ by up to {largest:.1e}; a step of Adam is about 1e-03")
assert largest > 1e-4

# %% [markdown]
# ## Looking inside
#
# In Python, one line gives a stored model: no optimizer, no template, not the devices it was
# trained on. Its variables are the two collections of chapter 2.

# %%
model, variables, stored_config = flaxlab.load(run)
images = experiment.splits.validation.images[:8] / np.float32(255)
predicted = model.apply(variables, images, train=False).argmax(axis=1)
print("predicted:", predicted, "true:", experiment.splits.validation.labels[:8])
assert stored_config.seed == 0
assert set(variables) == {"params", "batch_stats"}

# %%
kernels = variables["params"]["block1"]["conv1"]["kernel"]  # (3, 3, 1, 16)
figure, axes = plt.subplots(2, 8, figsize=(8, 2.2), layout="constrained")
for place, kernel in zip(axes.flat, np.moveaxis(kernels[:, :, 0], -1, 0), strict=True):
    place.imshow(kernel, cmap="RdBu", vmin=-abs(kernels).max(), vmax=abs(kernels).max())
    place.set(xticks=[], yticks=[])
_ = figure.suptitle("the 16 filters of the first convolution", fontsize=10)

# %% [markdown]
# `--diff` compares two checkpoints: here, the runs that should be the same.

# %%
inspect.main(["--diff", str(run), str(undisturbed)])

# %% [markdown]
# ## A flipped bit
#
# Disks and copies go wrong. Each checkpoint carries a sha256 of each of its files, checked before
# anything is restored. One bit, in a copy of the run:

# %%
damaged = folder / "damaged"
shutil.copytree(run, damaged)
latest = load_stored(damaged, "latest").saved.folder
data = max(latest.rglob("state/**/d/*"), key=lambda path: path.stat().st_size)
content = bytearray(data.read_bytes())
content[len(content) // 2] ^= 1
data.write_bytes(content)
try:
    flaxlab.load(damaged)
    noticed = False
except UsageError as error:
    noticed = True
    print(str(error).replace(str(folder), "..."))
assert noticed

# %% [markdown]
# ## Exercises
#
# 1. Train 2 epochs into a run directory, then call `train` with 4 epochs on the same directory. Is
#    it the run that had 4 epochs from the start? And with
#    `config.optimizer.schedule = "cosine"`?
# 2. A run that was started with another learning rate: what does `train` say to it, and what does
#    it leave in the directory?
# 3. Start a new run from this one's parameters with `config.train.init_from`. What is taken over,
#    what is not, and why is that no resuming?
#
# Solutions: [`solutions/06_resume.py`](solutions/06_resume.py)

# %%
shutil.rmtree(folder)
