from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from dicom_io.phantom.patient import LesionKind, Visit, draw_patient
from dicom_io.study import Geometry, Modality, Series, Volume
from expert_models.card import packaged_card
from expert_models.codes import (
    CARDIOTHORACIC_RATIO,
    CONSOLIDATION,
    EFFUSION_DEPTH,
    PLEURAL_EFFUSION,
    PNEUMOTHORAX,
    SHARE_OF_LUNG,
    VOLUME,
)
from expert_models.ct_chest import CtChest, between_cavities
from expert_models.ct_chest_network import CARD
from expert_models.ct_chest_parts import Lesion, Parts, chest_grid, parts_of
from expert_models.ct_grid import Grid, resample, upright_grid
from expert_models.ct_lungs import Lungs, find_lungs
from expert_models.evaluate_ct_chest import signed
from expert_models.evaluate_radiographs import MaskShelf
from expert_models.finding import Code, Finding, Presence, Side
from expert_models.train.ct_chest_scenes import LABELS, truth_of

SURE = 20.0  # a share of one half becomes a logit of ten


class Seeing(CtChest):
    """Sees the truth of a phantom instead of asking the network."""

    def __init__(self, visit: Visit, swapped: bool = False) -> None:
        card = packaged_card(CARD)
        super().__init__(card=replace(card, calibration={**card.calibration, "consolidation_alarm": 0.0}))
        self.truth = truth_of(visit)
        if swapped:
            self.truth["right thorax"], self.truth["left thorax"] = (
                self.truth["left thorax"],
                self.truth["right thorax"],
            )

    def look(self, volume: Volume, lungs: Lungs) -> Parts:
        grid = chest_grid(volume, lungs, 4.0)
        hu = resample(volume.voxels, volume.geometry, grid)
        logits = {
            name: SURE * signed(resample(self.truth[name].astype(np.float32), volume.geometry, grid, fill=0.0))
            for name in LABELS
        }
        return parts_of(grid, hu, logits, lungs)


@pytest.fixture(scope="module")
def visit() -> Visit:
    kinds = [LesionKind.EFFUSION, LesionKind.CONSOLIDATION]
    return draw_patient(1_000_004, kinds=kinds, spacing_mm=2.5, upright=False).visits[-1]


@pytest.fixture(scope="module")
def shelf() -> MaskShelf:
    return MaskShelf()


@pytest.fixture(scope="module")
def findings(visit: Visit, shelf: MaskShelf) -> Sequence[Finding]:
    return Seeing(visit).examine(series_of(visit), shelf)


def series_of(visit: Visit) -> Series:
    volume = Volume(visit.hu, visit.geometry)
    return Series("1.2.3", Modality.CT, volume, tuple(f"1.2.3.{k}" for k in range(visit.hu.shape[0])))


def one(findings: Sequence[Finding], concept: Code, side: Side | None = None) -> Finding:
    (found,) = [each for each in findings if each.concept == concept and each.side is side]
    return found


def test_what_is_seen_is_told_with_side_volume_and_lines(
    visit: Visit, findings: Sequence[Finding], shelf: MaskShelf
) -> None:
    lesions = {lesion.kind: lesion for lesion in visit.lesions}
    for concept, kind in ((PLEURAL_EFFUSION, LesionKind.EFFUSION), (CONSOLIDATION, LesionKind.CONSOLIDATION)):
        lesion = lesions[kind]
        other = Side.LEFT if lesion.side == "right" else Side.RIGHT
        finding = one(findings, concept, Side(lesion.side))
        assert finding.presence is Presence.INDETERMINATE
        assert finding.probability is None
        assert finding.measurement(VOLUME).value == pytest.approx(lesion.volume_ml, rel=0.15)
        mask = np.zeros(visit.hu.shape, bool)
        mask[finding.regions[0].box.slices] = shelf.load(finding.regions[0].mask_key)
        truth = lesion.on_grid(visit.hu.shape)
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.85
        assert one(findings, concept, other).presence is Presence.NOT_ASSESSED
    depth = one(findings, PLEURAL_EFFUSION, Side(lesions[LesionKind.EFFUSION].side)).measurement(EFFUSION_DEPTH)
    (line,) = depth.lines
    assert abs(line.start[1] - line.stop[1]) * 2.5 == pytest.approx(depth.value, abs=0.1)  # along the rows alone
    nowhere = one(findings, PNEUMOTHORAX)
    assert nowhere.presence is Presence.NOT_ASSESSED  # what was never measured on patients is not denied
    assert "how often the expert misses one" in nowhere.reason


def test_the_share_of_the_lung_is_of_the_lung_with_its_consolidation(visit: Visit, findings: Sequence[Finding]) -> None:
    (lesion,) = [each for each in visit.lesions if each.kind is LesionKind.CONSOLIDATION]
    finding = one(findings, CONSOLIDATION, Side(lesion.side))
    lung_ml = visit.structures[f"{lesion.side}_lung"].sum() * visit.geometry.voxel_ml
    assert finding.measurement(SHARE_OF_LUNG).value == pytest.approx(100 * lesion.volume_ml / lung_ml, rel=0.15)


def test_the_heart_is_measured(visit: Visit, shelf: MaskShelf) -> None:
    heart = visit.structures["heart"]
    lungs = visit.structures["left_lung"] | visit.structures["right_lung"]
    for lesion in visit.lesions:
        lungs = lungs | lesion.on_grid(lungs.shape)

    def widest(mask: np.ndarray) -> int:
        ends = [np.flatnonzero(plane.any(0)) for plane in mask if plane.any()]
        return max(int(each[-1] - each[0]) + 1 for each in ends)

    expert, series = Seeing(visit), series_of(visit)
    parts = expert.look(series.volume, find_lungs(series.volume))
    ratio = expert.heart(parts, series, shelf).measurement(CARDIOTHORACIC_RATIO)
    assert ratio.value == pytest.approx(widest(heart) / widest(lungs), abs=0.02)
    assert len(ratio.lines) == 2


def test_outlines_that_contradict_the_lungs_are_not_trusted(visit: Visit, masks) -> None:
    findings = Seeing(visit, swapped=True).examine(series_of(visit), masks)
    for concept in (PLEURAL_EFFUSION, PNEUMOTHORAX, CONSOLIDATION):
        finding = one(findings, concept)
        assert finding.presence is Presence.NOT_ASSESSED
        assert "do not agree with the lungs" in finding.reason


def block(hu: float, label: str) -> tuple[Grid, np.ndarray, dict[str, np.ndarray], Lungs]:
    """Two cavities of lung with a block of so many HU, called `label`, in the right one."""
    volume = Volume(np.full((40, 60, 80), -1000, np.int16), Geometry(np.diag([4.0] * 3 + [1.0])[[2, 1, 0, 3]]))
    grid = upright_grid(volume, 4.0)
    values = np.full(grid.shape, 40.0, np.float32)
    logits = {name: np.full(grid.shape, -5, np.float32) for name in LABELS}
    sides = []
    for side, columns in ((Side.RIGHT, slice(10, 35)), (Side.LEFT, slice(45, 70))):
        values[5:35, 10:50, columns] = -860
        logits[f"{side.value} thorax"][5:35, 10:50, columns] = 5
        lung = np.zeros(grid.shape, bool)
        lung[5:35, 10:40, columns] = True
        sides.append((side, lung))
    values[10:20, 40:50, 15:25] = hu
    logits[label][10:20, 40:50, 15:25] = 5
    airways = np.zeros(grid.shape, bool)
    airways[20:, 25:31, 37:43] = True
    values[airways] = -985
    return grid, values, logits, Lungs(grid, values, tuple(sides), airways)


@pytest.mark.parametrize(
    ("label", "hu", "is_kept"),
    [
        ("effusion", 10, True),
        ("effusion", 95, False),  # enhanced tissue
        ("effusion", -50, False),  # fat
        ("pneumothorax", -980, True),
        ("pneumothorax", -950, False),  # emphysema: 35 HU above the air of the trachea
        ("consolidation", 40, True),
        ("consolidation", -450, False),  # ground glass
        ("consolidation", 220, False),  # calcified or a vessel full of contrast medium
    ],
)
def test_only_the_attenuation_of_a_lesion_makes_it_one(label: str, hu: float, is_kept: bool) -> None:
    parts = parts_of(*block(hu, label))
    assert parts.doubt is None
    lesion = parts.lesions[label, Side.RIGHT]
    assert lesion.volume_ml == pytest.approx(64.0 if is_kept else 0.0)  # 1,000 voxels of 0.064 mL
    assert lesion.score == pytest.approx(5.0 if is_kept else -10.0, abs=5.01 if not is_kept else 0.01)
    assert parts.lesions[label, Side.LEFT].volume_ml == 0


def test_the_chest_wall_in_front_of_the_lungs_is_no_heart() -> None:
    grid, hu, logits, lungs = block(10, "effusion")
    logits["heart"][10:20, 4:30, 36:44] = 5  # rows 4 to 9 lie in front of both cavities
    heart = between_cavities(logits["heart"], parts_of(grid, hu, logits, lungs))
    assert not (heart[:, :10] > 0).any()
    assert (heart[10:20, 10:30, 36:44] == 5).all()


def test_only_a_strong_sign_with_an_outline_is_told() -> None:
    card = packaged_card(CARD)
    expert = CtChest(card=replace(card, calibration={**card.calibration, "effusion_alarm": 6.0}))
    outline = np.zeros((2, 2, 2), np.float32)
    told = [
        expert.presence("effusion", Lesion(score, outline, ml)) for score, ml in ((5.9, 30.0), (6.1, 30.0), (6.1, 0))
    ]
    assert told == [Presence.NOT_ASSESSED, Presence.INDETERMINATE, Presence.NOT_ASSESSED]


def test_specks_are_no_lesions() -> None:
    grid, hu, logits, lungs = block(10, "effusion")
    logits["effusion"][:] = -5
    logits["effusion"][10:14, 40:44, 15:19] = 5  # 4.1 mL
    assert parts_of(grid, hu, logits, lungs).lesions["effusion", Side.RIGHT].volume_ml == 0


def test_no_lungs_is_said_of_everything(masks) -> None:
    series = series_of_block()
    findings = CtChest().examine(series, masks)
    assert {each.concept for each in findings} == set(CtChest().concepts)
    assert all(each.presence is Presence.NOT_ASSESSED and "no lungs" in each.reason for each in findings)


def series_of_block() -> Series:
    hu = np.full((20, 64, 64), -1000, np.int16)
    hu[:, 16:48, 16:48] = 40
    volume = Volume(hu, Geometry(np.diag([3.0, 3.0, 3.0, 1.0])[[2, 1, 0, 3]]))
    return Series("1.2.3", Modality.CT, volume, tuple(f"1.2.3.{k}" for k in range(20)))


def test_the_grid_is_no_larger_for_a_whole_body(visit: Visit) -> None:
    volume = Volume(visit.hu, visit.geometry)
    lungs = find_lungs(volume)
    long = np.concatenate([np.full((400, *visit.hu.shape[1:]), -1000, np.int16), visit.hu])
    affine = visit.geometry.affine.copy()
    affine[:3, 3] -= 400 * affine[:3, 0]
    short, whole = chest_grid(volume, lungs, 4.0), chest_grid(Volume(long, Geometry(affine)), lungs, 4.0)
    assert whole.shape[0] <= short.shape[0] + 20
    assert whole.shape[1:] == short.shape[1:]
