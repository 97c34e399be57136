"""The nouns of the bottom package: what a study is once DICOM has been read.

Index space is (slice, row, column). Patient space is DICOM LPS in millimetres (PS3.3 C.7.6.2.1.1):
x grows to the patient's left, y to the back, z to the head. A name says which of the two it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt


class Modality(StrEnum):
    """Modality (0008,0060) of a series that wetread reads; the values are DICOM's defined terms."""

    CT = "CT"
    DX = "DX"
    CR = "CR"

    @property
    def is_projection(self) -> bool:
        """True for radiographs, false for volumes."""
        return self is not Modality.CT


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One file, instance or frame that was not used, and why, in a sentence fit for the user."""

    name: str  # a file name or position ("slice 12"), never a patient's name or a raw UID
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Where the voxels of a volume lie in the patient.

    affine: (4, 4) float64, homogeneous (slice, row, column, 1) -> patient LPS mm. For a radiograph, which has
    no patient space, the affine holds the pixel spacing at the detector alone (or 1 mm when it is unknown).
    """

    affine: npt.NDArray[np.float64]
    frame_of_reference_uid: str | None = None
    is_calibrated: bool = True  # false: the spacing was not stated and lengths in mm must not be reported

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.all(np.isfinite(affine)):
            raise ValueError("a geometry needs a finite affine of shape (4, 4)")
        if not np.array_equal(affine[3], [0, 0, 0, 1]) or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise ValueError("a geometry needs an invertible affine whose last row is 0 0 0 1")
        affine = affine.copy()
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Geometry)
            and np.array_equal(self.affine, other.affine)
            and self.frame_of_reference_uid == other.frame_of_reference_uid
            and self.is_calibrated == other.is_calibrated
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along slice, row and column index, in mm."""
        slice_mm, row_mm, column_mm = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(slice_mm), float(row_mm), float(column_mm)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def to_patient(self, index: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N, 3) index positions (slice, row, column), voxel centres at integers -> (N, 3) LPS mm."""
        index = np.atleast_2d(np.asarray(index, dtype=np.float64))
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, point_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """(N, 3) LPS mm -> (N, 3) index positions (slice, row, column), fractional."""
        point_mm = np.atleast_2d(np.asarray(point_mm, dtype=np.float64))
        return (point_mm - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """The pixels of a series with their geometry.

    voxels: CT (slices, rows, columns) int16 in HU, clipped to [-1024, 3071];
    radiograph (1, rows, columns) float32 in [0, 1], brighter = denser (bone white), upright as stored.
    """

    voxels: npt.NDArray[np.int16] | npt.NDArray[np.float32]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3 or 0 in self.voxels.shape:
            raise ValueError(f"a volume needs three non-empty axes, got shape {self.voxels.shape}")
        if self.voxels.dtype not in (np.int16, np.float32):
            raise ValueError(f"a volume holds int16 HU or float32 in [0, 1], got {self.voxels.dtype}")
        if self.voxels.dtype == np.float32:
            if self.voxels.shape[0] != 1:
                raise ValueError("a radiograph has one slice")
            low, high = float(self.voxels.min()), float(self.voxels.max())
            if not (low >= 0.0 and high <= 1.0):
                raise ValueError("a radiograph's values lie in [0, 1]")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        slices, rows, columns = self.voxels.shape
        return slices, rows, columns


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One series, decoded and assembled. source[i] is the SOP Instance UID of slice i."""

    uid: str
    modality: Modality
    volume: Volume
    source: tuple[str, ...]
    view: str | None = None  # ViewPosition: PA, AP, LL, RL ...; None when the file does not say
    description: str = ""
    body_part: str = ""  # BodyPartExamined, as sent
    age_years: int | None = None  # whole years of the patient at the time, None when the file does not say
    left_out: tuple[LeftOut, ...] = ()

    def __post_init__(self) -> None:
        if len(self.source) != self.volume.shape[0]:
            raise ValueError(f"{len(self.source)} source instances for {self.volume.shape[0]} slices")


@dataclass(frozen=True, slots=True)
class Request:
    """Why the study was made: from DICOM, HL7 or FHIR."""

    indication: str = ""  # ReasonForTheRequestedProcedure and its like
    procedure: str = ""  # RequestedProcedureDescription or StudyDescription
    accession: str = ""  # AccessionNumber


@dataclass(frozen=True, slots=True)
class Tracked:
    """A thing that a report on the study follows over time, by its Tracking Unique Identifier (PS3.16 TID 1501).

    concept: code value and scheme of what it was called. side: "left", "right", "bilateral" or None.
    box_index: half open, (slice, row, column) from and to, in the series of series_uid; None where its place is not
    known.
    """

    uid: str
    concept: tuple[str, str]
    side: str | None = None
    series_uid: str = ""
    box_index: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None

    def __post_init__(self) -> None:
        if bool(self.series_uid) is not (self.box_index is not None):
            raise ValueError("a place needs a series and a box")


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """One study of one patient, normalised, its priors attached newest first.

    uid is the Study Instance UID. patient_key is a keyed hash, the same for every study of the patient.
    report is the text of the report that came with the study, or was written for it, if there is one.
    tracked: what reports on the study follow over time, of any maker; ours first.
    """

    uid: str
    patient_key: str
    acquired_on: datetime | None
    series: tuple[Series, ...]
    request: Request = field(default_factory=Request)
    priors: tuple[Study, ...] = ()
    report: str | None = None
    left_out: tuple[LeftOut, ...] = ()
    tracked: tuple[Tracked, ...] = ()

    def __post_init__(self) -> None:
        if any(prior.patient_key != self.patient_key for prior in self.priors):
            raise ValueError("a prior must be of the same patient")

    def series_of(self, uid: str) -> Series:
        """The series with this uid; KeyError when the study has none."""
        for series in self.series:
            if series.uid == uid:
                return series
        raise KeyError("no such series in this study")

    def __iter__(self) -> Iterator[Series]:
        return iter(self.series)
