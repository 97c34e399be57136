"""Which experts there are: those in this package, and those that other packages offer.

Another package offers an expert through the entry point group `wetread.experts`: a callable that takes the device and
returns an Expert. An expert that cannot be made is not lost: why is remembered, and shown by `wetread doctor`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from expert_models.errors import ExpertError
from expert_models.ports import Expert

ENTRY_POINTS = "wetread.experts"
PACKAGED = {
    "chest radiograph": "expert_models.chest_radiograph:ChestRadiograph",
    "chest CT lungs": "expert_models.ct_lungs:ChestCtLungs",
    "chest CT nodules": "expert_models.ct_nodules:CtNodules",
}


@dataclass
class Registry:
    """The experts that are ready, by label in the order they were offered, and why the others are not."""

    device: str = "cpu"
    ready: dict[str, Expert] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def offer(self, label: str, where: str) -> None:
        """Make the expert `package.module:name` available, or remember why it is not."""
        module, _, name = where.partition(":")
        try:
            self._add(label, getattr(import_module(module), name))
        except (ImportError, AttributeError) as exc:
            self.missing[label] = f"{where} cannot be imported: {exc}"

    def offer_installed(self) -> None:
        """Offer what other installed packages bring, by their entry points."""
        for point in entry_points(group=ENTRY_POINTS):
            try:
                self._add(point.name, point.load())
            except Exception as exc:  # a stranger's module may fail in any way, and must not take ours with it
                self.missing[point.name] = f"{point.value} cannot be loaded: {exc}"

    def _add(self, label: str, make: object) -> None:
        try:
            self.ready[label] = cast("Callable[[str], Expert]", make)(self.device)
        except (ExpertError, OSError, ValueError, TypeError) as exc:
            self.missing[label] = str(exc)


def registered(device: str = "cpu") -> Registry:
    """Every expert that can be had. Nothing heavy is loaded: each loads its weights when it first examines."""
    registry = Registry(device)
    for label, where in PACKAGED.items():
        registry.offer(label, where)
    registry.offer_installed()
    return registry


def packaged_experts(device: str = "cpu") -> tuple[Expert, ...]:
    """The experts that are ready, in a fixed order. Use `registered` to learn which are not, and why."""
    return tuple(registered(device).ready.values())
