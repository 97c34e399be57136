from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_io.phantom.patient import LesionKind, Visit, draw_patient
from dicom_io.study import Geometry, Modality, Series, Volume
from expert_models.codes import LONG_AXIS, LUNG, LUNG_MASS, LUNG_NODULE, MEAN_ATTENUATION, VOLUME
from expert_models.ct_lungs import IMAGED_VOLUME, ChestCtLungs
from expert_models.ct_nodules import CtNodules
from expert_models.ct_paste import Crop, Pose, paste, read_ct
from expert_models.evaluate_ct import Read, froc, seeds_of, sensitivity_at
from expert_models.finding import Finding, Presence, Side

CT_CHEST = Path(__file__).parents[2].parent / "shared" / "data" / "ct_chest"


@pytest.fixture(scope="module")
def visit() -> Visit:
    return draw_patient(1_000_003, kinds=[LesionKind.MASS], spacing_mm=(3.0, 1.8, 1.8), upright=False).visits[-1]


def series_of(hu: np.ndarray, affine: np.ndarray, modality: Modality = Modality.CT) -> Series:
    volume = Volume(np.ascontiguousarray(hu), Geometry(affine))
    return Series("1.2.3", modality, volume, tuple(f"1.2.3.{k}" for k in range(hu.shape[0])))


def turned(visit: Visit, axes: tuple[int, ...]) -> Series:
    """The same patient, stored with some index axes reversed: the affine says so."""
    affine = visit.geometry.affine.copy()
    for axis in axes:
        affine[:3, 3] += affine[:3, axis] * (visit.hu.shape[axis] - 1)
        affine[:3, axis] *= -1
    return series_of(np.flip(visit.hu, axes), affine)


def by_side(findings: list[Finding]) -> dict[Side | None, Finding]:
    return {finding.side: finding for finding in findings if finding.concept == LUNG}


@pytest.mark.parametrize("axes", [(), (0,), (2,), (0, 1, 2)], ids=["plain", "feet first", "mirrored columns", "all"])
def test_sides_are_the_patients_however_the_slices_are_stored(visit: Visit, axes: tuple[int, ...], masks) -> None:
    found = by_side(list(ChestCtLungs().examine(turned(visit, axes), masks)))
    assert set(found) == {Side.LEFT, Side.RIGHT}
    for side, finding in found.items():
        truth = np.flip(visit.structures[f"{side.value}_lung"], axes)
        mask = np.zeros(truth.shape, bool)
        mask[finding.regions[0].box.slices] = masks.load(finding.regions[0].mask_key)
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.9


def test_volume_and_attenuation_are_of_the_mask(visit: Visit, masks) -> None:
    series = turned(visit, ())
    finding = by_side(list(ChestCtLungs().examine(series, masks)))[Side.RIGHT]
    region = finding.regions[0]
    mask = masks.load(region.mask_key)
    values = series.volume.voxels[region.box.slices][mask]
    assert finding.concept == LUNG
    assert finding.measurement(VOLUME).value == pytest.approx(mask.sum() * 3.0 * 1.8 * 1.8 / 1000, abs=0.06)
    assert finding.measurement(MEAN_ATTENUATION).value == pytest.approx(values.mean(), abs=0.06)


def test_a_cut_lung_is_measured_as_the_part_that_was_imaged(visit: Visit, masks) -> None:
    middle = visit.hu.shape[0] // 2
    affine = visit.geometry.affine.copy()
    affine[:3, 3] = visit.geometry.to_patient([[middle - 15, 0, 0]])[0]
    findings = ChestCtLungs().examine(series_of(visit.hu[middle - 15 : middle + 15], affine), masks)
    assert len(by_side(list(findings))) == 2
    for finding in by_side(list(findings)).values():
        assert finding.measurement(VOLUME) is None
        assert finding.measurement(IMAGED_VOLUME).value > 100


def test_no_lungs_is_said(visit: Visit, masks) -> None:
    block = np.full((20, 64, 64), -1000, np.int16)
    block[:, 16:48, 16:48] = 40
    series = series_of(block, np.diag([3.0, 3.0, 3.0, 1.0])[[2, 1, 0, 3]])
    for expert in (ChestCtLungs(), CtNodules()):
        for finding in expert.examine(series, masks):
            assert finding.presence is Presence.NOT_ASSESSED
            assert "no lungs" in finding.reason


def test_what_is_not_a_ct_volume_is_refused(visit: Visit) -> None:
    for expert in (ChestCtLungs(), CtNodules()):
        assert "fewer" in expert.refuses(series_of(visit.hu[:2], visit.geometry.affine))
        assert expert.refuses(turned(visit, ())) is None


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The network on one thread: threads that wait for a busy core make a small picture take a minute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_nodule_is_found_where_it_was_drawn(masks, one_thread: None) -> None:
    visit = draw_patient(1_000_003, kinds=[LesionKind.NODULE], spacing_mm=(3.0, 1.8, 1.8), upright=False).visits[-1]
    (nodule,) = visit.lesions
    first = max(nodule.start[0] - 9, 0)  # a slab of slices around it: reading a whole chest takes too long here
    part = slice(first, nodule.start[0] + nodule.mask.shape[0] + 9)
    affine = visit.geometry.affine.copy()
    affine[:3, 3] = visit.geometry.to_patient([[first, 0, 0]])[0]
    series = series_of(visit.hu[part], affine)
    truth = nodule.on_grid(visit.hu.shape)[part]
    hits = []
    for finding in CtNodules().examine(series, masks):
        assert finding.concept in (LUNG_NODULE, LUNG_MASS)
        if finding.regions:
            mask = np.zeros(truth.shape, bool)
            mask[finding.regions[0].box.slices] = masks.load(finding.regions[0].mask_key)
            if (mask & truth).any():
                hits.append(finding)
    assert hits
    assert hits[0].side is Side(nodule.side)
    assert hits[0].measurement(LONG_AXIS).value == pytest.approx(nodule.long_axis_mm, rel=0.5)


def test_a_pasted_crop_keeps_its_values_and_its_place() -> None:
    # A ball of 50 HU with a radius of 5 mm, pasted at (10, 20, 30) mm into air-like lung.
    z, y, x = np.meshgrid(*[np.arange(-10, 11)] * 3, indexing="ij")
    ball = z**2 + y**2 + x**2 <= 25
    affine = np.eye(4)[[2, 1, 0, 3]]
    crop = Crop(Volume(np.where(ball, 50, -850).astype(np.int16), Geometry(affine)), ball, "p")
    lung = np.full((60, 60, 60), -860, np.int16)
    box, mask = paste(lung, Geometry(affine), crop, Pose(np.array([10.0, 20.0, 30.0]), (-1, 1, 1)))
    assert box.centre == (30, 20, 10)
    assert mask.sum() == ball.sum()
    assert np.all(lung[box.slices][mask] == 50)
    assert lung[0, 0, 0] == -860


def test_froc_by_hand() -> None:
    # Two scans, three nodules; false candidates at 0.9, 0.5 and 0.2.
    reads = [Read("a", (0.95, 0.6), (), (0.9,)), Read("b", (float("nan"),), (), (0.5, 0.2))]
    assert sensitivity_at(reads, 1 / 8) == pytest.approx(1 / 3)  # none may be false: only 0.95 is above 0.9
    assert sensitivity_at(reads, 1.0) == pytest.approx(2 / 3)
    assert froc(reads) == pytest.approx((2 * (1 / 3) + 5 * (2 / 3)) / 7)


@pytest.mark.parametrize("source", ["phantom:5", "phantom:9-3", "phantom:a-b"])
def test_a_range_that_is_none_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="START-STOP"):
        seeds_of(source)


@pytest.mark.skipif(not CT_CHEST.is_dir(), reason="the research scans of ct_chest are not here")
@pytest.mark.parametrize(
    ("case", "sides"),
    [
        ("pyradiomics_lung1", {Side.LEFT, Side.RIGHT}),
        ("totalseg_slab3mm", {Side.LEFT, Side.RIGHT}),
        ("totalseg_dicom20", set()),
    ],
)
def test_the_lungs_of_real_scans(case: str, sides: set[Side], masks) -> None:
    volume = read_ct(CT_CHEST / case / "image.nii.gz")
    findings = ChestCtLungs().examine(series_of(volume.voxels, volume.geometry.affine), masks)
    assert {finding.side for finding in findings if finding.presence is Presence.PRESENT} == sides
