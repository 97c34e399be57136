"""Which experts there are: those in this package, those that other packages offer, and the bundles that were added.

Another package offers an expert through the entry point group `wetread.experts`: a callable that takes the device and
returns an Expert. An expert that cannot be made is not lost: why is remembered, and shown by `wetread doctor`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

from expert_models.bundles.shelf import Shelf
from expert_models.ports import Expert
from expert_models.recipe import Recipe

ENTRY_POINTS = "wetread.experts"
PACKAGED = {
    "chest radiograph input": "expert_models.input_check:RadiographInput",
    "chest radiograph": "expert_models.chest_radiograph:ChestRadiograph",
    "chest radiograph findings": "expert_models.chest_findings:ChestFindings",
    "chest radiograph structures": "expert_models.chest_structures:ChestStructures",
    "chest CT lungs": "expert_models.ct_lungs:ChestCtLungs",
    "chest CT nodules": "expert_models.ct_nodules:CtNodules",
    "chest CT": "expert_models.ct_chest:CtChest",
}


@dataclass
class Registry:
    """The experts that are ready, by label in the order they were offered, and why the others are not.

    recipes: how each that is ready was made, so that another process can make it as well.
    """

    device: str = "cpu"
    ready: dict[str, Expert] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)

    def offer(self, recipe: Recipe) -> None:
        """Make the expert available, or remember why it is not."""
        label = recipe.label
        try:
            expert = recipe.make(self.device)
            if any(each.tag.name == expert.tag.name for each in self.ready.values()):
                self.missing[label] = f"there is an expert named {expert.tag.name} already"
                return
        except Exception as exc:  # a stranger's module may fail in any way, and must not take ours with it
            self.missing[label] = str(exc) or type(exc).__name__
            return
        self.ready[label] = expert
        self.recipes[label] = recipe


def registered(device: str = "cpu", shelf: Path | None = None) -> Registry:
    """Every expert that can be had. Nothing heavy is loaded: each loads its weights when it first examines.

    shelf: the folder of the bundles that were added, see expert_models/bundles/shelf.py.
    """
    registry = Registry(device)
    recipes = [Recipe(label, where) for label, where in PACKAGED.items()]
    recipes += [Recipe(point.name, point.value) for point in entry_points(group=ENTRY_POINTS)]
    recipes += Shelf(shelf).recipes() if shelf else []
    for recipe in recipes:
        registry.offer(recipe)
    return registry


def packaged_experts(device: str = "cpu") -> tuple[Expert, ...]:
    """The experts that are ready, in a fixed order. Use `registered` to learn which are not, and why."""
    return tuple(registered(device).ready.values())
