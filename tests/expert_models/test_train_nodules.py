from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from expert_models.train.ct_nodules import Plan, _checkpoint, _resume

PLAN = Plan(steps=2)
Network = tuple[nn.Module, dict[str, torch.Tensor], torch.optim.Optimizer]


def started(seed: int) -> Network:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))
    averaged = {name: value.detach().clone() for name, value in network.state_dict().items()}
    return network, averaged, torch.optim.AdamW(network.parameters(), lr=0.1)


def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    network(torch.linspace(0, 1, 125).reshape(1, 1, 5, 5, 5)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_a_run_that_was_interrupted_goes_on_where_it_stood(tmp_path: Path) -> None:
    network, averaged, optimizer = started(1)
    step(network, optimizer)
    _checkpoint(tmp_path, network, averaged, optimizer, PLAN, 1)
    other, its_average, its_optimizer = started(2)
    assert _resume(tmp_path / "ct-nodules.checkpoint.safetensors", other, its_average, its_optimizer, PLAN) == 1
    step(network, optimizer)
    step(other, its_optimizer)
    for one, two in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    for name, value in averaged.items():
        torch.testing.assert_close(its_average[name], value, rtol=0, atol=0)


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    network, averaged, optimizer = started(1)
    _checkpoint(tmp_path, network, averaged, optimizer, PLAN, 0)
    with pytest.raises(ValueError, match="another run"):
        _resume(tmp_path / "ct-nodules.checkpoint.safetensors", network, averaged, optimizer, Plan(steps=3))
