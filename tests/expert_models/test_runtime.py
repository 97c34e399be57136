from __future__ import annotations

import logging
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from expert_models.card import packaged_card
from expert_models.errors import ExpertError
from expert_models.runtime import VARIABLE, OpenVinoRunner, TorchRunner, chosen, largest_error, runner, told
from expert_models.segment import load_network

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


class TwoAnswers(nn.Module):
    def forward(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        return one + other, one.mean((2, 3))


class Unsteady(nn.Module):
    """A network with an answer that no other runtime can repeat."""

    def forward(self, frames: Tensor) -> Tensor:
        return frames + torch.rand(frames.shape)


def frames_of(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@needs_openvino
@pytest.mark.parametrize(("name", "shape"), [("cxr-anatomy", (2, 1, 64, 64)), ("ct-nodules", (1, 1, 32, 32, 32))])
def test_openvino_gives_the_probabilities_that_pytorch_gives(name: str, shape: tuple[int, ...]) -> None:
    network, frames = load_network(packaged_card(name)), frames_of(*shape)
    with torch.inference_mode():
        expected = torch.sigmoid(network(frames))
    run = OpenVinoRunner(network)
    with torch.autocast("cpu", torch.bfloat16):  # as callers have it around both runtimes
        first = run(frames)
    assert first.dtype is torch.float32
    assert (torch.sigmoid(first) - expected).abs().max() < 1e-4
    assert torch.equal(run(frames), first)


@needs_openvino
def test_several_inputs_answers_and_shapes() -> None:
    run = OpenVinoRunner(TwoAnswers())
    for size in (2, 3):
        total, mean = run(torch.ones(1, 1, size, size), torch.full((1, 1, size, size), 2.0))
        assert torch.equal(total, torch.full((1, 1, size, size), 3.0))
        assert torch.equal(mean, torch.ones(1, 1))


@needs_openvino
def test_an_answer_that_is_not_pytorchs_is_not_believed(monkeypatch, caplog) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with caplog.at_level(logging.WARNING):
        run = OpenVinoRunner(Unsteady())
        first, second = run(torch.zeros(1, 8)), run(torch.zeros(1, 8))
    assert "PyTorch runs the network" in caplog.text
    assert not torch.equal(first, second)  # PyTorch's own, drawn anew each time
    monkeypatch.setenv(VARIABLE, "openvino")
    with pytest.raises(ExpertError, match="differs"):
        OpenVinoRunner(Unsteady())(torch.zeros(1, 8))


@needs_openvino
def test_openvinos_telemetry_is_never_loaded() -> None:
    told()
    from openvino.tools.ovc import telemetry_utils

    assert sys.modules["openvino_telemetry"] is None
    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"


def test_who_is_chosen(monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "torch")
    assert chosen() == "torch"
    assert isinstance(runner(nn.Identity()), TorchRunner)
    assert told().startswith("PyTorch")
    monkeypatch.setenv(VARIABLE, "openvino")
    assert chosen("cuda") == "torch"
    monkeypatch.setitem(sys.modules, "openvino", None)  # as where it is not installed
    with pytest.raises(ExpertError, match="not installed"):
        chosen()
    monkeypatch.setenv(VARIABLE, "auto")
    assert chosen() == "torch"


@pytest.mark.parametrize(("layer", "dimensions"), [(nn.Conv2d, 2), (nn.Conv3d, 3)])
def test_pytorch_answers_in_float32_whatever_it_computes_in(layer: type, dimensions: int) -> None:
    network = nn.Sequential(layer(1, 4, 3, padding=1), layer(4, 4, 3, padding=1, groups=4)).eval()
    frames = frames_of(1, 1, *[16] * dimensions)
    with torch.inference_mode():
        expected = network(frames)
    answer = TorchRunner(network)(frames)
    assert answer.dtype is torch.float32
    assert largest_error(answer, expected) < 0.02  # eight bits of a bfloat16's fraction, twice


def test_the_largest_error_is_a_share_by_hand() -> None:
    assert largest_error(torch.tensor([1.0, 9.0]), torch.tensor([1.0, 10.0])) == pytest.approx(0.1)
    assert largest_error(torch.tensor([0.2]), torch.tensor([0.1])) == pytest.approx(0.1)  # below 1: as it is
    two = largest_error((torch.tensor([1.0]), torch.tensor([4.0])), (torch.tensor([1.0]), torch.tensor([2.0])))
    assert two == pytest.approx(1.0)
