"""A training run that can be interrupted: network, moving average, optimizer, curve and plan, in one file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Curve = list[tuple[int, float]]  # (step, loss)


class Training:
    """One run of a plan, taken up where its file says that it stood.

    averaged: the moving average of the network's tensors, the weights that ship. curve: every step's loss.
    """

    def __init__(self, path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, plan: object) -> None:
        """ValueError when the file is of a run with another plan (they are compared as text)."""
        self._path, self._network, self._optimizer, self._plan = path, network, optimizer, str(plan)
        self.averaged = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.curve: Curve = []
        if path.is_file():
            self._resume()

    @property
    def done(self) -> int:
        """How many steps were taken."""
        return len(self.curve)

    def took(self, loss: Tensor, kept: float) -> None:
        """Count a step that the optimizer has taken. kept: the share of the old average in the new one, in [0, 1]."""
        for name, value in self._network.state_dict().items():
            if value.is_floating_point():
                self.averaged[name].lerp_(value, 1 - kept)
            else:
                self.averaged[name].copy_(value)
        self.curve.append((self.done, float(loss.detach())))

    def recent_loss(self, steps: int) -> float:
        """The mean loss of the last steps."""
        return float(np.mean([loss for _, loss in self.curve[-steps:]]))

    def keep(self) -> None:
        """Write the state; the file is whole at any time."""
        tensors = {f"net.{name}": value for name, value in self._network.state_dict().items()}
        tensors |= {f"avg.{name}": value for name, value in self.averaged.items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"opt.{index}.{name}": value for name, value in state.items()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(f"{self._path.name}.partial")
        save_file(
            {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()},
            partial,
            {"plan": self._plan, "curve": json.dumps(self.curve)},
        )
        partial.replace(self._path)

    def _resume(self) -> None:
        with safe_open(self._path, "pt") as file:
            notes = file.metadata() or {}
        if notes.get("plan") != self._plan:
            raise ValueError(f"{self._path.name} is of another run: remove it, or train into another folder")
        tensors = load_file(self._path)
        self._network.load_state_dict({name[4:]: value for name, value in tensors.items() if name.startswith("net.")})
        for name, value in self.averaged.items():
            value.copy_(tensors[f"avg.{name}"])
        state = self._optimizer.state_dict()
        state["state"] = {}
        for name, value in tensors.items():
            if name.startswith("opt."):
                _, index, key = name.split(".")
                state["state"].setdefault(int(index), {})[key] = value
        self._optimizer.load_state_dict(state)
        self.curve = [(int(step), float(loss)) for step, loss in json.loads(notes["curve"])]
