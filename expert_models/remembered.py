"""What experts found once: under which key it is kept, and the newest of it in memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock

import numpy as np

from dicom_io.study import Series
from expert_models.finding import Finding
from expert_models.ports import Expert

REMEMBERED = 64  # examinations in memory, so that a prior that was a study a moment ago is not examined twice
COMPUTE = ("torch", "monai", "numpy", "scipy")  # another version of these may round otherwise


class Remembered:
    """The newest examinations, in memory: implements expert_models.ports.Examinations."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._kept: OrderedDict[str, tuple[Finding, ...]] = OrderedDict()
        self._lock = Lock()

    def load(self, key: str) -> tuple[Finding, ...] | None:
        """The findings of this key, if they are still here."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def save(self, key: str, findings: Sequence[Finding]) -> None:
        """Keep the findings until others have come."""
        with self._lock:
            self._kept[key] = tuple(findings)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


def fingerprint(expert: Expert, series: Series) -> str:
    """The same for the same pixels of the same series under the same expert, software and device; 64 hex digits.

    The series' UIDs are part of it: findings hold them, and would point into another study.
    """
    volume, tag = series.volume, expert.tag
    digest = hashlib.sha256(np.ascontiguousarray(volume.voxels).data)
    digest.update(volume.geometry.affine.tobytes())
    made_of = getattr(expert, "made_of", "")
    parts: tuple[object, ...] = (
        *(volume.shape, volume.voxels.dtype, volume.geometry.is_calibrated, volume.geometry.frame_of_reference_uid),
        *(series.uid, series.modality, series.view, series.body_part, series.age_years, series.source),
        *(tag.name, tag.version, tag.weights_sha256, made_of, software()),
    )
    digest.update(repr(tuple(str(part) for part in parts)).encode())
    return digest.hexdigest()


@cache
def software() -> str:
    """What examines, beside an expert's weights: a hash of this package's code and cards and of libraries' versions.

    A version number alone would not do: in development, code and cards change under the same one.
    """
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted([*folder.rglob("*.py"), *(folder / "cards").glob("*.toml")]):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    digest.update(repr([version(each) for each in ("wetread", *COMPUTE)]).encode())
    return digest.hexdigest()
