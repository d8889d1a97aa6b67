# %% [markdown]
# # Solutions to chapter 8

# %%
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import flaxlab
from flaxlab.data.digits import load_digits

folder = Path(tempfile.mkdtemp())
config = flaxlab.configure(
    "digits_small", **{"train.epochs": 2, "log.tensorboard": False, "log.progress": "none"}
)

# %% [markdown]
# ## 1. Arrays in a file
#
# The pixels are the same, so the bits are the same: of the history, the parameters and the
# fingerprint of the data. What differs is that the second run needs nothing but its file, so that
# the command can go on with it. The digits stand for your images.

# %%
digits = load_digits((8, 8, 1))
data = (digits.train.images, digits.train.labels, digits.test.images, digits.test.labels)
in_memory = flaxlab.fit(config, folder / "in_memory", data=data)
names = ("x_train", "y_train", "x_test", "y_test")
np.savez(folder / "digits.npz", **dict(zip(names, data, strict=True)))
on_file = {"data.name": "npz", "data.file": folder / "digits.npz"}
in_file = flaxlab.fit(flaxlab.configure(config, **on_file), folder / "in_file")
assert np.array_equal(in_file.predict(data[2]), in_memory.predict(data[2]))
assert in_file.summary["dataset_fingerprint"] == in_memory.summary["dataset_fingerprint"]
print(in_file.summary["command"])

# %% [markdown]
# ## 2. Interrupted
#
# A notebook interrupts a cell by the signal SIGINT, as Ctrl-C does; here a thread sends it. The
# history has the epochs that are completely saved. The state of the last step is saved as well,
# and the run goes on from there.


# %%
def interrupt() -> None:
    while not (folder / "long/history.csv").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


config.train.epochs, config.checkpoint.epoch_seconds = 1000, 0.0
threading.Thread(target=interrupt).start()
try:
    flaxlab.fit(config, folder / "long")
except KeyboardInterrupt as error:
    print(f"interrupted: {error}")
reached = len(flaxlab.open_run(folder / "long").history)
print(f"{reached} epochs are saved")
config.train.epochs = reached + 1
assert len(flaxlab.fit(config, folder / "long").history) == reached + 1

# %% [markdown]
# ## 3. A sweep
#
# Two seeds of each rate, paired: the verdict is the comparison's, not the eye's. An interval beyond
# zero would be a difference; with one that contains it, two seeds cannot tell.

# %%
suite = flaxlab.run_suite(
    "digits_small",
    folder / "rates",
    seeds=2,
    sweep={"optimizer.learning_rate": (1e-3, 2e-3)},
    **{"train.epochs": 2, "log.tensorboard": False, "log.progress": "none"},
)
baseline, faster = suite.compare().table
print(f"{faster['arm']}: {faster['difference']:+.3f} in accuracy, {faster['verdict']}")
assert baseline["word"] == "the baseline"
assert faster["difference_low"] < faster["difference"] < faster["difference_high"]
