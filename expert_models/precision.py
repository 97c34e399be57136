"""Where a network runs, and in which precision: half where the processor multiplies it by itself, nowhere else."""

from __future__ import annotations

import torch


def half_precision(device: str, *, depthwise: bool = False) -> torch.autocast:
    """Autocast to bfloat16 for a network on this device, switched off on a CPU without bfloat16 of its own.

    A 3-D convolution of 48-cubed patches took 1.4 s in float32 and 44 s in bfloat16 on a processor with AVX2 alone.
    depthwise: the network is built of depthwise convolutions, which gain only where the processor multiplies tiles
    (AMX): with AVX-512 a training step of the radiograph network took 3.0 s in float32 and 3.9 s in bfloat16.
    """
    kind = torch.device(device).type
    able = torch.cpu.get_capabilities()
    native = kind != "cpu" or bool(able.get("amx_bf16") or (able.get("avx512_bf16") and not depthwise))
    return torch.autocast(kind, torch.bfloat16, enabled=native)


def whole_precision(of: torch.Tensor) -> torch.autocast:
    """Within half precision, around depthwise convolutions: float32 on a CPU without AMX, and no change elsewhere."""
    kind = of.device.type
    is_slower = kind == "cpu" and not torch.cpu.get_capabilities().get("amx_bf16")
    return torch.autocast(kind, torch.bfloat16, enabled=torch.is_autocast_enabled(kind) and not is_slower)


def training_device() -> str:
    """The GPU when torch sees one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"
