"""What runs a network: PyTorch, or on a processor OpenVINO, where it is installed and gives the same answer.

OpenVINO computes in float32 here. On an Intel processor with AVX-512 it takes a third to a half of the time that
PyTorch takes in float32, and it is faster than PyTorch in bfloat16, whose answers are other ones (bench/experts.py,
docs/decisions.md). A network is traced and compiled when the first input of a shape comes, and the answer to that input
is compared with PyTorch's before it is believed.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from expert_models.errors import ExpertError
from expert_models.precision import half_precision

if TYPE_CHECKING:
    from openvino import CompiledModel

LOG = logging.getLogger(__name__)
VARIABLE = "EXPERT_RUNTIME"  # auto, torch or openvino; app.bootstrap sets it, the process that examines inherits it
SAME = 1e-3  # of the largest value of an answer: how far OpenVINO's may be from PyTorch's

Run = Callable[..., Any]  # tensors (B, C, ...) -> a tensor or a tuple of tensors, float32


def runner(network: nn.Module, device: str = "cpu") -> Run:
    """A network that is trained no more, as a callable on the runtime that is chosen.

    Experts write `runner(load_network(card, device), device)`. ExpertError when OpenVINO is asked for and is missing.
    """
    return OpenVinoRunner(network) if chosen(device) == "openvino" else TorchRunner(network, device)


def chosen(device: str = "cpu") -> str:
    """torch or openvino: as VARIABLE says; "auto", which is the default, takes OpenVINO where it is installed.

    A GPU is PyTorch's alone. ExpertError when OpenVINO is asked for and is not there.
    """
    wanted = os.environ.get(VARIABLE) or "auto"
    if wanted == "torch" or torch.device(device).type != "cpu":
        return "torch"
    is_there = find_spec("openvino") is not None
    if wanted == "openvino" and not is_there:
        raise ExpertError("openvino is not installed")
    return "openvino" if is_there else "torch"


def told(device: str = "cpu") -> str:
    """What runs the networks, for a person to read."""
    if chosen(device) == "openvino":
        return f"OpenVINO {_openvino().get_version()}, float32"
    half = half_precision(device).fast_dtype if half_precision(device)._enabled else torch.float32
    return f"PyTorch {torch.__version__}, {str(half).removeprefix('torch.')}"


class TorchRunner:
    """A network in PyTorch: half precision and channels last where they are faster."""

    def __init__(self, network: nn.Module, device: str = "cpu") -> None:
        flat = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
        solid = [each for each in network.modules() if isinstance(each, nn.Conv3d)]
        self._layout = torch.contiguous_format
        if flat and not solid:
            self._layout = torch.channels_last
        elif solid and torch.device(device).type != "cpu":  # on a processor 3-D convolutions lose by it
            self._layout = torch.channels_last_3d
        self._is_depthwise = any(each.groups > 1 for each in [*flat, *solid])
        self._device = device
        placed = network.to(device).eval()
        self._network: nn.Module = placed.to(memory_format=self._layout)  # type: ignore[call-overload]

    def __call__(self, *inputs: Tensor) -> Any:
        """Tensors (B, C, ...) -> the network's answer."""
        dimensions = {torch.channels_last: 4, torch.channels_last_3d: 5}.get(self._layout)
        placed = [
            each.to(self._device).contiguous(
                memory_format=self._layout if each.dim() == dimensions else torch.contiguous_format
            )
            for each in inputs
        ]
        with torch.inference_mode(), half_precision(self._device, depthwise=self._is_depthwise):
            return _each(torch.Tensor.float, self._network(*placed))


class OpenVinoRunner:
    """A network in OpenVINO, on the processor; safe to call from several threads."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network.eval().float()
        self._compiled: dict[tuple[tuple[int, ...], ...], CompiledModel | None] = {}  # None: PyTorch answers this shape
        self._lock = Lock()

    def __call__(self, *inputs: Tensor) -> Any:
        """Tensors (B, C, ...) -> the network's answer."""
        frames = [each.detach().float().contiguous() for each in inputs]
        shapes = tuple(tuple(each.shape) for each in frames)
        with self._lock, torch.inference_mode(), torch.autocast("cpu", enabled=False):
            if shapes not in self._compiled:
                self._compiled[shapes] = self._proven(frames)
            compiled = self._compiled[shapes]
            return self._network(*frames) if compiled is None else _answer(compiled, frames)

    def _proven(self, frames: list[Tensor]) -> CompiledModel | None:
        """The network compiled for inputs of these shapes, if its answer to these is PyTorch's."""
        compiled, expected = _compiled(self._network, frames), self._network(*frames)
        error = largest_error(_answer(compiled, frames), expected)
        if error <= SAME:
            return compiled
        if os.environ.get(VARIABLE) == "openvino":
            raise ExpertError(f"OpenVINO's answer differs from PyTorch's by a share of {error:.2g}")
        LOG.warning("OpenVINO's answer differs from PyTorch's by a share of %.2g: PyTorch runs the network", error)
        return None


def largest_error(answer: Any, expected: Any) -> float:
    """How far an answer is from the expected one, as a share of its largest value (of 1, where that is smaller)."""
    pairs = [(answer, expected)] if isinstance(expected, Tensor) else list(zip(answer, expected, strict=True))
    return max(float((one - other).abs().max() / other.abs().max().clamp(min=1)) for one, other in pairs)


def _each(change: Callable[[Tensor], Tensor], answer: Any) -> Any:
    return change(answer) if isinstance(answer, Tensor) else tuple(change(part) for part in answer)


def _compiled(network: nn.Module, frames: list[Tensor]) -> CompiledModel:
    openvino = _openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of branches on the shape, which is the one compiled for
        traced = torch.jit.trace(network, tuple(frames), check_trace=False)  # type: ignore[no-untyped-call]
    # Not openvino.convert_model: it takes five times as long, and it is what would send telemetry.
    front_end = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=tuple(frames))  # must outlive the conversion
    model = front_end.convert(front_end.load(decoder))
    model.reshape({number: list(each.shape) for number, each in enumerate(frames)})
    properties = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # other programs, and other workers of ours, run on the same cores
    }
    compiled: CompiledModel = openvino.Core().compile_model(model, "CPU", properties)
    return compiled


def _answer(compiled: CompiledModel, frames: list[Tensor]) -> Any:
    answers = compiled([each.numpy() for each in frames])
    parts = tuple(torch.from_numpy(answers[number]) for number in range(len(compiled.outputs)))
    return parts[0] if len(parts) == 1 else parts


def _openvino() -> Any:
    """The package, without the telemetry that it would import: `openvino_telemetry` sends to Google Analytics."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # its import fails, as it allows for
    import openvino

    return openvino
