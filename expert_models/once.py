"""What is costly to make and wanted by several threads: made when it is first asked for, and kept."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """The value of `make`, made once. What make raises goes to the caller, and the next caller tries again."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._making = Lock()
        self._made: list[T] = []

    def __call__(self) -> T:
        """The value."""
        with self._making:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]
