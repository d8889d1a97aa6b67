"""Writes a stored model as StableHLO and safetensors, to run without flaxlab."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export
from safetensors.numpy import save

from flaxlab import files
from flaxlab.batches.augment import over_flips, scale_pixels
from flaxlab.errors import UsageError
from flaxlab.kernels.precision import with_precision
from flaxlab.run.load import StoredModel

# Platforms that the exported program can run on; each adds its own lowering to the file.
_PLATFORMS = ("cpu", "cuda", "tpu")

_README = """# {name}

`model.bin` is a function of JAX, serialized by `jax.export` (StableHLO), for {platforms}.
`weights.safetensors` has its weights, `export.json` describes its input and output.

    pip install jax flatbuffers safetensors

```python
import json
import pathlib

import numpy as np
from jax import export
from safetensors.numpy import load_file

folder = pathlib.Path(".")  # where these files are
function = export.deserialize(bytearray((folder / "model.bin").read_bytes()))
weights = load_file(folder / "weights.safetensors")
class_names = json.loads((folder / "export.json").read_text())["class_names"]

images = np.zeros((5, {shape}), np.uint8)  # any number of images, pixels 0 to 255
logits = function.call(weights, images)
print([class_names[label] for label in np.argmax(logits, axis=1)])
```
"""


def export_model(stored: StoredModel, folder: Path) -> None:
    """Writes model.bin, model.mlir, weights.safetensors, export.json and README.md.

    The exported function maps ({path: float32 array}, uint8 images (N, H, W, C)) to float32 logits
    (N, classes), for any N: the scaling of the pixels is part of it, and so is the mean over mirror
    images if the run scores by it. Batch normalization uses the running statistics.

    Raises:
        UsageError: `folder` holds other files.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "export.json").is_file():
        raise UsageError(f"--to={folder} holds other files; choose a new folder")
    weights = {
        "/".join(path): np.ascontiguousarray(array)
        for path, array in flatten_dict(stored.variables).items()
    }
    shape = tuple(stored.config.data.image_shape)
    exported = export.export(jax.jit(_function(stored)), platforms=_PLATFORMS)(
        {path: jax.ShapeDtypeStruct(array.shape, array.dtype) for path, array in weights.items()},
        jax.ShapeDtypeStruct(
            export.symbolic_shape(f"batch, {', '.join(map(str, shape))}"), jnp.uint8
        ),
    )
    about = {
        "name": stored.config.name,
        "checkpoint_epoch": stored.epoch,
        "input": {"shape": ["batch", *shape], "dtype": "uint8"},
        "output": {"shape": ["batch", len(stored.class_names)], "dtype": "float32"},
        "class_names": list(stored.class_names),
        "test_flips": stored.config.data.test_flips,
        "platforms": list(_PLATFORMS),
        "jax": jax.__version__,
    }
    readme = _README.format(
        name=stored.config.name,
        platforms=", ".join(_PLATFORMS),
        shape=", ".join(map(str, shape)),
    )
    serialized = bytes(exported.serialize())
    folder.mkdir(parents=True, exist_ok=True)
    files.write_bytes(folder / "weights.safetensors", save(weights))
    files.write_bytes(folder / "model.bin", serialized)
    files.write_text(folder / "model.mlir", exported.mlir_module())
    files.write_text(folder / "export.json", json.dumps(about, indent=2) + "\n")
    files.write_text(folder / "README.md", readme)


def _function(stored: StoredModel) -> Any:
    def logits_of(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
        variables = unflatten_dict({tuple(path.split("/")): x for path, x in weights.items()})
        scaled = scale_pixels(images, stored.config.data.scaling)
        compute = functools.partial(stored.model.apply, variables, train=False)
        logits: Any = over_flips(compute, stored.config.data.test_flips)(scaled)
        return logits

    return with_precision(logits_of, stored.config.train.matmul_precision)
