"""Times the same training steps by torch.compile; prints a line of JSON a case.

    python benchmarks/peers/gpu_torch.py --seconds=2 alexnet_pool:512:bfloat16 ...

A case is EXPERIMENT:BATCH:DTYPE, with DTYPE bfloat16 by autocast. Channels last, fused Adam, the
benchmark of cuDNN and TensorFloat-32 on; one batch that stays on the device.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from blocks import prepare_case, seconds_of_a_step
from torch_step import build


def measure(case: str, seconds: float, mode: str, device: str) -> dict[str, object]:
    """Returns the median time of a step over blocks of 100 steps, and the peak memory."""
    name, batch, dtype = case.split(":")
    job, rates, images, drawn = prepare_case(name, int(batch))
    network = build(job).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(
        network.parameters(),
        lr=rates.learning_rate,
        betas=(rates.b1, rates.b2),
        eps=rates.epsilon,
        fused=True,
    )
    # Seen as (N, C, H, W), the images lie in memory as they are: channels last.
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    labels = torch.from_numpy(drawn).to(device).long()
    loss_fn = torch.nn.CrossEntropyLoss()

    def loss_of(pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            return loss_fn(network(pixels.float() / 255), labels)

    compiled = torch.compile(loss_of, mode=mode)

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = compiled(pixels, labels)
        loss.backward()
        optimizer.step()
        return loss

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    begun = time.perf_counter()
    for _ in range(3):
        loss = step()
    wait()
    compiling = time.perf_counter() - begun
    median = seconds_of_a_step(step, wait, seconds)
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    return {
        "case": f"{case}:{mode}",
        "version": torch.__version__,
        "ms": median * 1e3,
        "images/s": len(images) / median,
        "first calls s": compiling,
        "loss": float(loss.detach()),
        "peak MB": memory / 1e6,
    }


def main() -> None:
    """Measures the cases of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--mode", default="default", help="of torch.compile")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    for case in options.cases:
        result = measure(case, options.seconds, options.mode, options.device)
        print(json.dumps(result), flush=True)
        if options.device == "cuda":
            torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main()
