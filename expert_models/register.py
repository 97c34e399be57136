"""Where a place in the current study lay in the prior: CT aligned on the lungs, radiographs on the outlined anatomy.

CT: an affine map and then a grid of control points 40 mm apart (free-form deformation as in Rueckert et al., IEEE Trans
Med Imaging 1999;18:712-721, with linear instead of cubic splines), fitted to both lungs at 10 and 5 mm by the mean
square of the differences in attenuation; what is not lung counts as one dense wall. Radiographs: the affine map of
least squares between the corners of the same organs.

A fit is used when it passes its own check: the prior's lungs, carried over, must cover the current ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from dicom_io.study import Geometry, Series, Study
from expert_models.codes import HEART, LUNG
from expert_models.ct_grid import Grid, resample, upright_grid
from expert_models.finding import Box, Code, Finding, Region, Side
from expert_models.ports import Masks

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

LEAST_AGREEMENT = 0.9  # Dice of the lungs after registration: 0.97 and more on phantoms
CT_ERROR_MM = 3.0  # how far off a place may be: see docs/decisions.md
FILM_ERROR_MM = 8.0
SHARES_ERROR_MM = 8.0
SPACINGS_MM = (10.0, 5.0)
CONTROL_MM = 40.0
STEPS = 30  # of Adam, for the affine map and on each grid
STIFFNESS = 2e-4
CONTRAST_HU = 1000.0  # in the lung, this much counts like the step to its wall
REACH_MM = 30.0  # of the prior around its lungs


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """A map from the current study's space to the prior's, (N, 3) LPS mm to (N, 3) LPS mm.

    error_mm: how far off it is, about one standard deviation. remark: what the reader must know of how it was made.
    """

    to_prior: Callable[[Array], Array]
    error_mm: float
    remark: str = ""


def register(
    study: Study, current: Sequence[Finding], prior: Study, before: Sequence[Finding], masks: Masks
) -> Registration:
    """The registration of two studies of one kind by the organs that were outlined in them.

    Where the lungs were not outlined in both, or cannot be brought to cover one another, a place is carried over as
    its share of the lungs' box, and the remark says so. KeyError when a mask is no longer kept.
    """
    now, then = (_organs(each) for each in (current, before))
    both = [key for key in now if key in then]
    lungs = [key for key in both if key[0] == LUNG]
    series, earlier = _series(study, now), _series(prior, then)
    if series is None or earlier is None or not lungs:
        return _by_shares(study, now, prior, then, "the lungs were not outlined in both studies")
    if series.modality.is_projection:
        return _of_films(series, earlier, [(now[key], then[key]) for key in both]) or _by_shares(
            study, now, prior, then, "the two radiographs could not be aligned"
        )
    if any(found[key].mask_key is None for key in lungs for found in (now, then)):
        return _by_shares(study, now, prior, then, "the lungs were not outlined in both studies")
    volumes = [
        _Lungs.of(each, [found[key] for key in lungs], masks) for each, found in ((series, now), (earlier, then))
    ]
    fitted, agreement = _fitted(volumes[0], volumes[1])
    if agreement < LEAST_AGREEMENT:
        return _by_shares(study, now, prior, then, f"aligned, the lungs overlap by no more than {agreement:.0%}")
    return Registration(fitted, CT_ERROR_MM)


Organ = tuple[Code, Side | None]


def _organs(findings: Sequence[Finding]) -> dict[Organ, Region]:
    """Lungs and heart with their regions, all of the first lung's series."""
    placed = [each for each in findings if each.concept in (LUNG, HEART) and each.regions]
    first = next((each.regions[0].series_uid for each in placed if each.concept == LUNG), "")
    organs: dict[Organ, Region] = {}
    for each in placed:
        if each.regions[0].series_uid == first:
            organs.setdefault((each.concept, each.side), each.regions[0])
    return organs


def _series(study: Study, organs: dict[Organ, Region]) -> Series | None:
    return study.series_of(next(iter(organs.values())).series_uid) if organs else None


# ---------------------------------------------------------------------------------------------------------- fallback


def _by_shares(
    study: Study, now: dict[Organ, Region], prior: Study, then: dict[Organ, Region], why: str
) -> Registration:
    """Each axis stretched from the box of the lungs to that of the prior's; the whole picture where there are none."""
    (low_mm, size_mm), (prior_low_mm, prior_size_mm) = (
        _extent(each, organs) for each, organs in ((study, now), (prior, then))
    )
    return Registration(
        lambda points_mm: (points_mm - low_mm) / size_mm * prior_size_mm + prior_low_mm,
        SHARES_ERROR_MM,
        f"lesions were matched by their share of the lungs' extent, for {why}",
    )


def _extent(study: Study, organs: dict[Organ, Region]) -> tuple[Array, Array]:
    """Lowest corner and size, (3,) mm each, of the lungs, else of the first series."""
    lungs = [region for (concept, _), region in organs.items() if concept == LUNG]
    series = study.series_of(lungs[0].series_uid) if lungs else study.series[0]
    boxes = [each.box for each in lungs] or [Box((0, 0, 0), series.volume.shape)]
    corners_mm = np.concatenate([_corners_mm(series, box) for box in boxes])
    size_mm = np.ptp(corners_mm, axis=0)
    return corners_mm.min(axis=0), np.where(size_mm > 0, size_mm, 1.0)


def _corners_mm(series: Series, box: Box) -> Array:
    ends = [(start, stop - 1) for start, stop in zip(box.start, box.stop, strict=True)]
    return series.volume.geometry.to_patient(list(product(*ends)))


# -------------------------------------------------------------------------------------------------------- radiographs


def _of_films(series: Series, earlier: Series, organs: Sequence[tuple[Region, Region]]) -> Registration | None:
    """The affine map of least squares between the corners of the same organs; None from a single one or a poor fit."""
    if len(organs) < 2:
        return None
    # row and column lie along the second and third axis of a radiograph's space; four of the corners are doubles
    here = np.concatenate([_corners_mm(series, each.box)[:4, 1:] for each, _ in organs])
    there = np.concatenate([_corners_mm(earlier, each.box)[:4, 1:] for _, each in organs])
    known = np.column_stack([here, np.ones(len(here))])
    solved = np.linalg.lstsq(known, there, rcond=None)[0]
    off_mm = np.linalg.norm(known @ solved - there, axis=1)
    if np.sqrt((off_mm**2).mean()) > (1 - LEAST_AGREEMENT) * np.ptp(there, axis=0).max():
        return None

    def to_prior(points_mm: Array) -> Array:
        flat = np.column_stack([points_mm[:, 1:], np.ones(len(points_mm))]) @ solved
        return np.column_stack([points_mm[:, 0], flat])

    return Registration(to_prior, FILM_ERROR_MM)


# ----------------------------------------------------------------------------------------------------------------- CT


@dataclass(frozen=True, slots=True, eq=False)
class _Lungs:
    """A CT with its lungs. parts: each lung's mask with the geometry of its own voxels."""

    series: Series
    parts: tuple[tuple[npt.NDArray[np.uint8], Geometry], ...]
    low_mm: Array
    high_mm: Array

    @classmethod
    def of(cls, series: Series, regions: Sequence[Region], masks: Masks) -> _Lungs:
        corners_mm = np.concatenate([_corners_mm(series, each.box) for each in regions])
        parts = []
        for each in regions:
            affine = series.volume.geometry.affine.copy()
            affine[:3, 3] = series.volume.geometry.to_patient([each.box.start])[0]
            parts.append((masks.load(each.mask_key or "").astype(np.uint8), Geometry(affine)))
        return cls(series, tuple(parts), corners_mm.min(axis=0), corners_mm.max(axis=0))

    def picture(self, spacing_mm: float, margin_mm: float) -> tuple[Grid, Float32, Float32]:
        """An upright grid around the lungs, their attenuation less its mean with 1 for all else, and their share."""
        span = (self.low_mm - margin_mm, self.high_mm + margin_mm)
        grid = upright_grid(self.series.volume, spacing_mm, span)
        share = sum(resample(mask, geometry, grid, fill=0.0) for mask, geometry in self.parts)
        inside = np.clip(share, 0.0, 1.0).astype(np.float32)
        hu = np.clip(resample(self.series.volume.voxels, self.series.volume.geometry, grid), -1000.0, 100.0)
        mean = float((hu * inside).sum() / max(float(inside.sum()), 1.0))
        return grid, (inside * (hu - mean) / CONTRAST_HU + (1.0 - inside)).astype(np.float32), inside


def _fitted(lungs: _Lungs, earlier: _Lungs) -> tuple[Callable[[Array], Array], float]:
    """The map of places, and the Dice of the lungs once the prior's were carried over."""
    import torch  # heavy, and only CT with lesions on both dates needs it
    from torch import Tensor
    from torch.nn.functional import grid_sample

    def positions(grid: Grid) -> Tensor:
        index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in grid.shape), indexing="ij"), -1).double()
        affine = torch.from_numpy(np.array(grid.geometry.affine))
        return (index @ affine[:3, :3].T + affine[:3, 3]).float()[None]  # (1, D, H, W, 3) mm

    def sampled(picture: Tensor, points_mm: Tensor, grid: Grid, outside: str = "border") -> Tensor:
        low_mm = torch.tensor(grid.geometry.affine[:3, 3], dtype=torch.float32)
        last = torch.tensor([n - 1 for n in grid.shape[::-1]], dtype=torch.float32).clamp(min=1)
        place = (points_mm - low_mm) / (last * grid.geometry.spacing_mm[0]) * 2 - 1
        return grid_sample(picture, place, padding_mode=outside, align_corners=True)

    def tensors(of: _Lungs, spacing_mm: float, margin_mm: float) -> tuple[Grid, Tensor, Tensor]:
        grid, picture, inside = of.picture(spacing_mm, margin_mm)
        return grid, torch.from_numpy(picture)[None, None], torch.from_numpy(inside)[None, None]

    middle, prior_middle = (
        torch.tensor((each.low_mm + each.high_mm) / 2, dtype=torch.float32) for each in (lungs, earlier)
    )
    stretch = (earlier.high_mm - earlier.low_mm) / (lungs.high_mm - lungs.low_mm)
    linear = torch.diag(torch.tensor(stretch, dtype=torch.float32)).requires_grad_()
    offset = torch.zeros(3, requires_grad=True)
    control_grid = upright_grid(
        lungs.series.volume, CONTROL_MM, (lungs.low_mm - CONTROL_MM / 2, lungs.high_mm + CONTROL_MM / 2)
    )
    control = torch.zeros((1, 3, *control_grid.shape), requires_grad=True)

    def carried(points_mm: Tensor) -> Tensor:
        shift = sampled(control, points_mm, control_grid).permute(0, 2, 3, 4, 1)
        return (points_mm - middle) @ linear.T + prior_middle + offset + shift

    def bending() -> Tensor:
        parts = [control.diff(n=2, dim=axis) for axis in (2, 3, 4) if control.shape[axis] > 2]
        return torch.stack([(part**2).mean() for part in parts]).mean() if parts else control.sum() * 0.0

    stages = [(SPACINGS_MM[0], [{"params": [linear], "lr": 0.01}, {"params": [offset], "lr": 1.0}])]
    stages += [(spacing_mm, [{"params": [control], "lr": 2.0 / (k + 1)}]) for k, spacing_mm in enumerate(SPACINGS_MM)]
    agreement = 0.0
    for spacing_mm, wanted in stages:
        grid, fixed, inside = tensors(lungs, spacing_mm, spacing_mm * 3)
        prior_grid, moving, prior_inside = tensors(earlier, spacing_mm, REACH_MM)
        points_mm = positions(grid)
        optimizer = torch.optim.Adam(wanted)
        for _ in range(STEPS):
            optimizer.zero_grad()
            difference = sampled(moving, carried(points_mm), prior_grid) - fixed
            ((difference**2).mean() + STIFFNESS * bending()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            covered = sampled(prior_inside, carried(points_mm), prior_grid, "zeros") > 0.5
        wanted_here = inside > 0.5
        agreement = float(2 * (covered & wanted_here).sum() / (covered.sum() + wanted_here.sum()).clamp(min=1))

    def to_prior(places_mm: Array) -> Array:
        with torch.no_grad():
            there = carried(torch.tensor(np.atleast_2d(places_mm), dtype=torch.float32)[None, None, None])
        return there[0, 0, 0].numpy().astype(np.float64)

    return to_prior, agreement
