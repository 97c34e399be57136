from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from expert_models.train.checkpoint import Training


def started(path: Path, seed: int, plan: str = "plan") -> tuple[nn.Module, torch.optim.Optimizer, Training]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    return network, optimizer, Training(path, network, optimizer, plan)


def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    loss: torch.Tensor = network(torch.linspace(0, 1, 125).sin().reshape(1, 1, 5, 5, 5)).pow(3).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    return loss


def test_a_run_that_was_interrupted_goes_on_where_it_stood(tmp_path: Path) -> None:
    network, optimizer, run = started(tmp_path / "new" / "run.safetensors", 1)
    run.took(step(network, optimizer), 0.5)
    run.keep()
    other, its_optimizer, taken_up = started(tmp_path / "new" / "run.safetensors", 2)
    assert taken_up.done == 1
    assert taken_up.curve == run.curve
    run.took(step(network, optimizer), 0.5)
    taken_up.took(step(other, its_optimizer), 0.5)
    for one, two in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    for name, value in run.averaged.items():
        torch.testing.assert_close(taken_up.averaged[name], value, rtol=0, atol=0)


def test_a_file_of_another_plan_is_refused(tmp_path: Path) -> None:
    _, _, run = started(tmp_path / "run.safetensors", 1)
    run.keep()
    with pytest.raises(ValueError, match="another run"):
        started(tmp_path / "run.safetensors", 1, "another plan")


def test_the_average_and_the_mean_loss_by_hand(tmp_path: Path) -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 4.0)
    run = Training(tmp_path / "run.safetensors", network, torch.optim.SGD(network.parameters(), lr=1.0), "plan")
    for weight, loss in ((8.0, 1.0), (0.0, 4.0)):
        nn.init.constant_(network.weight, weight)
        run.took(torch.tensor(loss), 0.75)
    assert run.averaged["weight"].item() == pytest.approx(3.75)  # 4 -> 5 -> 3.75
    assert run.curve == [(0, 1.0), (1, 4.0)]
    assert run.recent_loss(1) == 4.0
    assert run.recent_loss(2) == 2.5
