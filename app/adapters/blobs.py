"""Masks in a folder, each under the hash of its content."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import numpy as np
import numpy.typing as npt

from app.errors import WHY
from expert_models.errors import MasksUnavailable


class FolderMasks:
    """Implements expert_models.ports.Masks: one compressed file a mask, written once, never changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, mask: npt.NDArray[np.bool_]) -> str:
        """Keep a boolean mask of three axes; its key is the sha256 of shape and bits. Raises MasksUnavailable."""
        if mask.dtype != np.bool_ or mask.ndim != 3:
            raise ValueError(f"a mask is boolean with three axes, got {mask.dtype} {mask.shape}")
        bits = np.packbits(mask)
        key = hashlib.sha256(repr(mask.shape).encode() + bits.tobytes()).hexdigest()
        path = self._path(key)
        if path.exists():
            return key
        part = path.with_suffix(f".{token_hex(8)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.savez_compressed(file, bits=bits, shape=np.array(mask.shape, dtype=np.int64))
            part.replace(path)
        except OSError as exc:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            why = WHY.get(exc.errno or 0, exc.strerror or type(exc).__name__)
            raise MasksUnavailable(f"masks cannot be kept in {self._folder}: {why}") from exc
        return key

    def load(self, key: str) -> npt.NDArray[np.bool_]:
        """The mask of this key; KeyError when there is none."""
        path = self._path(key)
        if not path.is_file():
            raise KeyError("no mask of this key")
        with np.load(path, allow_pickle=False) as kept:
            shape = tuple(int(extent) for extent in kept["shape"])
            return np.unpackbits(kept["bits"], count=int(np.prod(shape))).reshape(shape).astype(bool)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.npz"


class MemoryMasks:
    """The same in memory, for evaluation runs that keep nothing."""

    def __init__(self) -> None:
        self._masks: dict[str, npt.NDArray[np.bool_]] = {}

    def save(self, mask: npt.NDArray[np.bool_]) -> str:
        """Keep a mask for as long as this object lives."""
        key = hashlib.sha256(repr(mask.shape).encode() + np.packbits(mask).tobytes()).hexdigest()
        self._masks[key] = mask
        return key

    def load(self, key: str) -> npt.NDArray[np.bool_]:
        """The mask of this key; KeyError when there is none."""
        return self._masks[key]
