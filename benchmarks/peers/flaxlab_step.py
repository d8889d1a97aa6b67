"""flaxlab's own step, as a run compiles it; `job["variant"]` is "fast" or "plain" (kernels)."""

from __future__ import annotations

from typing import Any

import numpy as np
from worker import Prepared, run_worker

from flaxlab.machine import return_compilers_memory, use_huge_pages


def prepare(job: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> Prepared:
    """Returns the step of a flaxlab run on these images."""
    import jax
    import jax.numpy as jnp

    from flaxlab import config as configs
    from flaxlab.batches.devices import one_device
    from flaxlab.batches.feed import make_feed
    from flaxlab.data.dataset import Dataset, Split
    from flaxlab.models import count_trainable
    from flaxlab.training.experiment import assemble
    from flaxlab.training.metrics import no_metrics
    from flaxlab.training.programs import compile_programs

    return_compilers_memory()
    config = configs.default_config(job["model"]["name"])
    config.update(configs.from_dict({key: job[key] for key in ("model", "optimizer")}))
    config.train.batch_size = len(labels)
    config.train.fast_kernels = job["variant"] == "fast"
    split = Split(images, labels)
    names = tuple(map(str, range(job["classes"])))
    dataset = Dataset("noise", "Noise", "0", "drawn at random", "", names, split, split)
    experiment = assemble(config, dataset)
    devices = one_device()
    programs = compile_programs(experiment, devices)
    feed = make_feed(split, len(labels), 1, devices, "resident")
    (batches,) = feed.train_batches(seed=0, epoch=1)
    state = devices.put(experiment.create_state())

    def step() -> float:
        nonlocal state
        totals = devices.put(no_metrics())
        state, totals = programs.train(state, totals, batches)
        return float(totals.loss) / len(labels)

    side = job["matmul_side"]
    square = jnp.ones((side, side))
    product = jax.jit(jnp.matmul)
    return Prepared(
        step=step,
        parameters=count_trainable(experiment.layers),
        version=f"JAX {jax.__version__}",
        matmul=lambda: product(square, square).block_until_ready(),
    )


if __name__ == "__main__":
    use_huge_pages()
    run_worker(prepare)
