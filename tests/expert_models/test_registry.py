from __future__ import annotations

import subprocess
import sys

from expert_models.recipe import Recipe
from expert_models.registry import PACKAGED, Registry, packaged_experts, registered


def test_the_packaged_radiograph_expert_is_ready() -> None:
    registry = registered()
    assert "chest radiograph" in registry.ready
    assert set(registry.ready) | set(registry.missing) >= set(PACKAGED)
    assert [expert.tag.name for expert in packaged_experts()] == [each.tag.name for each in registry.ready.values()]


def test_why_an_expert_is_missing_is_remembered() -> None:
    registry = Registry()
    registry.offer(Recipe("spleen", "expert_models.spleen:Spleen"))
    registry.offer(Recipe("lung", "expert_models.chest_radiograph:NoSuchClass"))
    registry.offer(Recipe("root", "math:sqrt"))  # can be called, but not with a device
    assert registry.ready == {}
    assert "No module named 'expert_models.spleen'" in registry.missing["spleen"]
    assert "NoSuchClass" in registry.missing["lung"]
    assert "real number" in registry.missing["root"]


def test_naming_the_experts_loads_neither_torch_nor_monai() -> None:
    code = (
        "import sys; from expert_models.registry import Registry, PACKAGED; registry = Registry(); "
        "from expert_models.recipe import Recipe; registry.offer(Recipe('x', PACKAGED['chest radiograph'])); "
        "assert registry.ready, registry.missing; "
        "sys.exit(', '.join({'torch', 'monai'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
