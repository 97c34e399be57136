from __future__ import annotations

from pathlib import Path

import pytest

from expert_models.precision import half_precision

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPUINFO.exists(), reason="the processor's own word is in /proc/cpuinfo, on Linux")
def test_half_precision_is_on_where_the_processor_has_it_and_off_elsewhere() -> None:
    flags = set(CPUINFO.read_text().split())
    with half_precision("cpu") as cast:
        assert cast._enabled is bool(flags & {"avx512_bf16", "amx_bf16"})
    with half_precision("cpu", depthwise=True) as cast:
        assert cast._enabled is ("amx_bf16" in flags)
