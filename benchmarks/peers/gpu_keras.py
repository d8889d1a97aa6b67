"""Times the same training steps by Keras on JAX; prints a line of JSON a case.

    KERAS_BACKEND=jax python benchmarks/peers/gpu_keras.py --seconds=2 alexnet_pool:512:bfloat16 ...

A case is EXPERIMENT:BATCH:DTYPE, with DTYPE bfloat16 by Keras's policy "mixed_bfloat16". The step
is the one of Keras's guide to training loops in JAX: the model and the optimizer called without
state, compiled as one function whose state is donated. One batch that stays on the device.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import jax
import keras
from blocks import prepare_case, seconds_of_a_step
from keras_step import build


def measure(case: str, seconds: float) -> dict[str, object]:
    """Returns the median time of a step, and the temporary memory."""
    name, batch, dtype = case.split(":")
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if dtype == "bfloat16" else dtype)
    job, rates, images, drawn = prepare_case(name, int(batch))
    network = build(job)
    optimizer = keras.optimizers.Adam(
        rates.learning_rate, rates.b1, rates.b2, epsilon=rates.epsilon
    )
    optimizer.build(network.trainable_variables)
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    pixels, labels = jax.device_put((images, drawn))

    def loss_of(trainable: Any, others: Any, pixels: jax.Array, labels: jax.Array) -> Any:
        logits, others = network.stateless_call(trainable, others, pixels, training=True)
        return loss_fn(labels, logits), others

    def step(state: Any, pixels: jax.Array, labels: jax.Array) -> Any:
        trainable, others, moments = state
        gradients = jax.value_and_grad(loss_of, has_aux=True)
        (loss, others), slopes = gradients(trainable, others, pixels, labels)
        trainable, moments = optimizer.stateless_apply(moments, slopes, trainable)
        return loss, (trainable, others, moments)

    state = tuple(
        [jax.numpy.copy(variable.value) for variable in variables]
        for variables in (
            network.trainable_variables,
            network.non_trainable_variables,
            optimizer.variables,
        )
    )
    begun = time.perf_counter()
    compiled = jax.jit(step, donate_argnums=0).lower(state, pixels, labels).compile()
    compiling = time.perf_counter() - begun
    loss, state = jax.block_until_ready(compiled(state, pixels, labels))

    def call() -> None:
        nonlocal loss, state
        loss, state = compiled(state, pixels, labels)

    median = seconds_of_a_step(call, lambda: jax.block_until_ready(loss), seconds)
    return {
        "case": case,
        "version": keras.__version__,
        "ms": median * 1e3,
        "images/s": len(images) / median,
        "compiling s": compiling,
        "loss": float(loss),
        "temporaries MB": compiled.memory_analysis().temp_size_in_bytes / 1e6,
    }


def main() -> None:
    """Measures the cases of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    for case in options.cases:
        print(json.dumps(measure(case, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
