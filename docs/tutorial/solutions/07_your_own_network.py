# %% [markdown]
# # Solutions to chapter 7

# %%
import tempfile
from pathlib import Path

from flaxlab.data.digits import load_digits
from flaxlab.data.shape import resolve_config
from flaxlab.errors import UsageError
from flaxlab.main import main as run
from flaxlab.suite.plan import plan_sweep
from flaxlab.training.experiment import assemble

folder = Path(tempfile.mkdtemp())
network = folder / "skipping.py"
SOURCE = """
import flax.linen as nn
from flaxlab.config import default_config
from flaxlab.models import Norm


class Skipping(nn.Module):
    num_classes: int
    filters: int = 8
    norm: str = "batch"

    @nn.compact
    def __call__(self, images, *, train):
        norm = Norm(self.norm, groups=4, momentum=0.9)
        x = nn.Conv(self.filters, (3, 3), strides=2)(images)
        y = norm(nn.Conv(self.filters, (3, 3))(x), train=train, name="norm")
        return nn.Dense(self.num_classes, name="output")(nn.relu(x + y).mean((1, 2)))


def get_config():
    config = default_config(Skipping)
    config.data.name, config.data.image_shape = "digits", (8, 8, 1)
    config.train.epochs, config.train.batch_size = 1, 32
    config.log.tensorboard, config.log.progress = False, "none"
    return config
"""
network.write_text(SOURCE)
digits = load_digits((8, 8, 1))

# %% [markdown]
# ## 1. `pmap`
#
# Under `pmap` each device sees its part of the batch, and batch normalization can only average
# over all parts if it knows the name of the mapped axis. A network without the field would silently
# train another thing, so flaxlab refuses it.

# %%
pmapped = ["--config.train.parallel=pmap", "--config.train.devices=1"]
refused = ""
try:
    assemble(resolve_config(network, pmapped), digits)
except UsageError as error:
    refused = str(error)
print(f"error: {refused}")
assert "axis_name" in refused
network.write_text(
    SOURCE.replace("norm: str", "axis_name: str | None = None\n    norm: str").replace(
        "momentum=0.9)", "momentum=0.9, axis_name=self.axis_name)"
    )
)
assert assemble(resolve_config(network, pmapped), digits).model.axis_name is not None
assert "axis_name" not in resolve_config(network, []).model  # no choice of the experiment

# %% [markdown]
# ## 2. A text for a boolean
#
# `norm` is a knob as soon as it is a field. `python -m flaxlab.suite --config=skipping.py
# --sweep.model.norm=batch,group,layer,none` has these arms:

# %%
network.write_text(SOURCE)
plan = plan_sweep(network, 3, [], ["--sweep.model.norm=batch,group,layer,none"])
for arm in plan.arms:
    print(arm.name, plan.differences(arm))
assert [arm.config.model.norm for arm in plan.arms] == ["batch", "group", "layer", "none"]

# %% [markdown]
# ## 3. Another network under the same name
#
# The config has not changed, so nothing but the code itself can tell. Each checkpoint has a
# fingerprint of the traced network, and a run does not go on with another one.

# %%
run([f"--config={network}", f"--workdir={folder / 'run'}"])
network.write_text(SOURCE.replace("nn.relu(x + y)", "nn.gelu(x + y)"))
refused = ""
try:
    run([f"--config={network}", f"--workdir={folder / 'run'}", "--config.train.epochs=2"])
except UsageError as error:
    refused = str(error)
print(f"error: {refused}")
assert "made by other code" in refused
