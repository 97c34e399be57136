"""Series and findings as bytes, for the way to the process that examines and back.

Only JSON and plain arrays travel: nothing is pickled, so a process that runs foreign code can answer with data alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from dicom_io.study import Geometry, Modality, Series, Volume
from expert_models.errors import ExpertError
from expert_models.finding import Finding
from expert_models.ports import Masks

Mask = npt.NDArray[np.bool_]

_FINDINGS = TypeAdapter(tuple[Finding, ...])


class CarriedMasks:
    """Masks of one examination, kept under "0", "1" ... until they have arrived where masks are kept."""

    def __init__(self) -> None:
        self.kept: list[Mask] = []

    def save(self, mask: Mask) -> str:
        """Keep a mask and return its number."""
        self.kept.append(np.array(mask, dtype=bool))
        return str(len(self.kept) - 1)

    def load(self, key: str) -> Mask:
        """The mask of this number; KeyError when there is none."""
        if not key.isdecimal() or int(key) >= len(self.kept):
            raise KeyError("no mask of this number")
        return self.kept[int(key)]


def pack_series(series: Series) -> tuple[dict[str, Any], memoryview]:
    """A series as JSON values and the bytes of its voxels, not copied."""
    volume = series.volume
    head = {
        "uid": series.uid,
        "modality": series.modality.value,
        "source": list(series.source),
        "view": series.view,
        "description": series.description,
        "body_part": series.body_part,
        "age_years": series.age_years,
        "shape": list(volume.shape),
        "dtype": volume.voxels.dtype.name,
        "affine": volume.geometry.affine.tolist(),
        "frame": volume.geometry.frame_of_reference_uid,
        "is_calibrated": volume.geometry.is_calibrated,
    }
    return head, np.ascontiguousarray(volume.voxels).data.cast("B")


def unpack_series(head: Mapping[str, Any], body: bytes) -> Series:
    """The same series again, without the list of what was left out of it."""
    voxels: npt.NDArray[Any] = np.frombuffer(body, dtype=head["dtype"]).reshape(head["shape"])
    geometry = Geometry(np.asarray(head["affine"]), head["frame"], head["is_calibrated"])
    return Series(
        uid=head["uid"],
        modality=Modality(head["modality"]),
        volume=Volume(voxels, geometry),
        source=tuple(head["source"]),
        view=head["view"],
        description=head["description"],
        body_part=head["body_part"],
        age_years=head["age_years"],
    )


def pack_findings(findings: Sequence[Finding], masks: CarriedMasks) -> list[bytes]:
    """Findings and the shapes of their masks as JSON, then the bits of each mask."""
    head = {"findings": _FINDINGS.dump_python(tuple(findings), mode="json"), "masks": [m.shape for m in masks.kept]}
    return [json.dumps(head).encode(), *(np.packbits(mask).tobytes() for mask in masks.kept)]


def unpack_findings(head: Mapping[str, Any], bodies: Sequence[bytes], masks: Masks) -> tuple[Finding, ...]:
    """The findings, their masks kept in `masks`. ExpertError when they are not findings; MasksUnavailable."""
    try:
        findings = _FINDINGS.validate_python(head["findings"], strict=False)
        arrived = [_mask(body, shape) for body, shape in zip(bodies, head["masks"], strict=True)]
    except (KeyError, TypeError, ValueError):
        raise ExpertError("its answer could not be understood") from None
    keys = [masks.save(mask) for mask in arrived]
    return tuple(_with_keys(finding, keys) for finding in findings)


def _mask(body: bytes, shape: Sequence[int]) -> Mask:
    slices, rows, columns = shape
    bits = np.unpackbits(np.frombuffer(body, dtype=np.uint8), count=slices * rows * columns)
    return bits.reshape(slices, rows, columns).astype(bool)


def _with_keys(finding: Finding, keys: Sequence[str]) -> Finding:
    regions = (
        region if region.mask_key is None else replace(region, mask_key=keys[int(region.mask_key)])
        for region in finding.regions
    )
    return replace(finding, regions=tuple(regions))
