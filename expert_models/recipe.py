"""How an expert is made: as data, so that another process can make the same one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import cast

from expert_models.ports import Expert


@dataclass(frozen=True, slots=True)
class Recipe:
    """Where the callable that makes an expert is, and what it is called with.

    where: "package.module:name". folder: of an added bundle, which is then its first argument; "" for the others, which
    are called with the device alone. is_foreign: it runs code that came with a bundle, so it gets a process of its own.
    """

    label: str
    where: str
    folder: str = ""
    is_foreign: bool = False

    def make(self, device: str) -> Expert:
        """The expert. Raises whatever its module and its constructor raise."""
        called = EntryPoint(name=self.label, value=self.where, group="wetread.experts").load()
        if self.folder:
            return cast("Callable[[str, str], Expert]", called)(self.folder, device)
        return cast("Callable[[str], Expert]", called)(device)
