"""A training run that can be interrupted: network, moving average, optimizer and the plan they are of, in one file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def average(averaged: dict[str, Tensor], network: nn.Module, keep: float) -> None:
    """Move the averaged weights towards the network's, in place. keep: the share of the old average, in [0, 1]."""
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            averaged[name].lerp_(value, 1 - keep)
        else:
            averaged[name].copy_(value)


def keep(
    path: Path, network: nn.Module, averaged: dict[str, Tensor], optimizer: torch.optim.Optimizer, plan: str, step: int
) -> None:
    """Write the state after `step` steps of a run; the file is whole at any time."""
    tensors = {f"net.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"avg.{name}": value for name, value in averaged.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"opt.{index}.{name}": value for name, value in state.items()}
    partial = path.with_name(f"{path.name}.partial")
    save_file(
        {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()},
        partial,
        {"step": str(step), "plan": plan},
    )
    partial.replace(path)


def resume(
    path: Path, network: nn.Module, averaged: dict[str, Tensor], optimizer: torch.optim.Optimizer, plan: str
) -> int:
    """Load what `keep` wrote and return how many steps were done; 0 when there is no such file.

    ValueError when the file is of a run with another plan.
    """
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        notes = file.metadata() or {}
    if notes.get("plan") != plan:
        raise ValueError(f"{path.name} is of another run: remove it, or train into another folder")
    tensors = load_file(path)
    network.load_state_dict({name[4:]: value for name, value in tensors.items() if name.startswith("net.")})
    for name, value in averaged.items():
        value.copy_(tensors[f"avg.{name}"])
    state = optimizer.state_dict()
    state["state"] = {}
    for name, value in tensors.items():
        if name.startswith("opt."):
            _, index, key = name.split(".")
            state["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(state)
    return int(notes["step"])
