"""Peer: the network and its training step in PyTorch, in eager mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from worker import Prepared, run_worker

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}
NORMALIZES = {"batch": True, "none": False}


def build(job: dict[str, Any]) -> nn.Sequential:
    """Returns the network of `job["model"]`, a flaxlab model config, for images (N, C, H, W)."""
    model, (height, width, channels) = job["model"], job["image_shape"]
    norm = {"eps": model["norm_epsilon"], "momentum": 1 - model["batch_norm_momentum"]}
    pools = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}
    layers: list[nn.Module] = []
    block_dropout = model["block_dropout"] or [0.0] * len(model["blocks"])
    for convs, (window, stride), rate in zip(
        model["blocks"], model["pools"], block_dropout, strict=True
    ):
        for filters, kernel in convs:
            padding = kernel // 2 if model["padding"] == "SAME" else 0
            layers += [nn.Conv2d(channels, filters, kernel, padding=padding), nn.ReLU()]
            channels = filters
        layers.append(pools[model["pool_kind"]](window, stride))
        if NORMALIZES[model["norm"]]:
            layers.append(nn.BatchNorm2d(channels, **norm))
        if rate:
            layers.append(nn.Dropout(rate))
    layers.append(nn.Flatten())
    with torch.no_grad():
        shape = (2, job["image_shape"][2], height, width)
        features = nn.Sequential(*layers)(torch.zeros(shape)).shape[1]
    head_dropout = model["head_dropout"] or [0.0] * len(model["head_units"])
    for units, rate in zip(model["head_units"], head_dropout, strict=True):
        layers += [nn.Linear(features, units), ACTIVATIONS[model["head_activation"]]()]
        if NORMALIZES[model["head_norm"]]:
            layers.append(nn.BatchNorm1d(units, **norm))
        if rate:
            layers.append(nn.Dropout(rate))
        features = units
    layers.append(nn.Linear(features, job["classes"]))
    return nn.Sequential(*layers)


def prepare(job: dict[str, Any], images: Any, labels: Any) -> Prepared:
    """Returns the step.

    `job["variant"]` is "channels_last" or "channels_first", in float32; "bf16" or "autocast",
    channels last, with float32 arrays whose products may be in bfloat16, or with bfloat16 arrays.
    """
    torch.manual_seed(0)
    variant = job["variant"]
    first = variant == "channels_first"
    memory_format = torch.contiguous_format if first else torch.channels_last
    if variant == "bf16":
        torch.backends.mkldnn.fp32_precision = "bf16"
    network = build(job).to(memory_format=memory_format).train()
    rates = job["optimizer"]
    optimizer = torch.optim.Adam(
        network.parameters(),
        lr=rates["learning_rate"],
        betas=(rates["b1"], rates["b2"]),
        eps=rates["epsilon"],
        fused=True,
    )
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    targets = torch.from_numpy(labels).long()
    loss_fn = nn.CrossEntropyLoss()

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=variant == "autocast"):
            logits = network(pixels.float() / 255)
        loss = loss_fn(logits.float(), targets)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    parameters = sum(parameter.numel() for parameter in network.parameters())
    square = torch.ones(job["matmul_side"], job["matmul_side"])
    return Prepared(
        step=step,
        parameters=parameters,
        version=f"PyTorch {torch.__version__}",
        matmul=lambda: torch.mm(square, square),
    )


if __name__ == "__main__":
    run_worker(prepare)
