from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from expert_models.findings_network import FindingsNetwork
from expert_models.train import cxr_findings
from expert_models.train.augment import with_nodules
from expert_models.train.cxr_findings import Plan, as_group, drawn_batch, findings_loss, train
from expert_models.train.findings_films import (
    LABELS,
    Film,
    from_phantom,
    is_held_out,
    opacity_by_hint,
    phantom_film,
    phantom_kinds,
    real_films,
    rows_of,
)
from expert_models.train.findings_stages import phantoms

OPACITY, EFFUSION, NODULE, MASS, EDEMA = map(LABELS.index, ("opacity", "effusion", "nodule", "mass", "edema"))
COLUMNS = (
    *("file", "patient", "view", "rsna", "rsna_class", "split"),
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)


@pytest.fixture(scope="module")
def phantom() -> Film:
    seed = next(seed for seed in range(1000) if len(phantom_kinds(seed)) >= 2)
    return from_phantom(seed, phantom_film(seed, 128, 5.0))


def small(film: Film) -> Film:
    return replace(film, picture=film.picture[::4, ::4], bits=film.bits[::4, ::4])


def pack(folder: Path, rows: Sequence[dict[str, str]], boxes: Sequence[tuple[str, ...]] = ()) -> Path:
    folder.mkdir(parents=True)
    with (folder / "index.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, restval="0")
        table.writeheader()
        for row in rows:
            table.writerow({"rsna": "", "rsna_class": "", "view": "PA", "split": "train"} | row)
            if "file" in row:
                Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).save(folder / row["file"])
    with (folder / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label", "x0", "y0", "x1", "y1", "source"), *boxes])
    return folder


def lungs(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The left and the right third of the picture: the patient's right lung is on the left."""
    right, left = np.zeros(picture.shape, bool), np.zeros(picture.shape, bool)
    right[40:200, 30:110] = True
    left[40:200, 150:230] = True
    return right, left


def test_a_phantom_is_known_everywhere(phantom: Film) -> None:
    assert phantom.picture.shape == phantom.bits.shape == (384, 384)
    halves = [(phantom.bits >> side) & 1 == 1 for side in (0, 1)]
    assert halves[0].any()
    assert halves[1].any()
    assert not (halves[0] & halves[1]).any()
    for label in range(len(LABELS)):
        shown = (phantom.bits >> 2 + label) & 1 == 1
        # A label without a lesion is drawn nowhere.
        assert phantom.sides[label].any() or not shown.any()
    assert (phantom.sides_weight == 1).all()
    assert (phantom.drawn == 1).all()


def test_boxes_of_a_reading_say_which_side(tmp_path: Path) -> None:
    row = {"file": "a.png", "patient": "p", "rsna": "1", "rsna_class": "Lung Opacity", "Pneumonia": "1"}
    # 512-pixel coordinates: rows 200-300 and columns 320-400, which are 150-225 and 240-300 in the frame.
    folder = pack(tmp_path / "cxr_nih", [row], [("a.png", "Lung Opacity", "320", "200", "400", "300", "rsna")])
    (film,) = real_films(folder, rows_of(folder, held_out=is_held_out("p")), lungs)
    assert film.sides[OPACITY].tolist() == [0, 1]
    assert (film.sides_weight[OPACITY] > 0).all()
    assert (film.sides_weight[EFFUSION] == 0).all()
    rows, columns = np.nonzero((film.bits >> 2 + OPACITY) & 1)
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == pytest.approx([150, 224, 240, 299], abs=1)
    assert (film.whole[OPACITY], film.whole_weight[OPACITY]) == (1, 1)
    assert film.drawn[EFFUSION] == 0  # sick: whether there is fluid was mined, and where was not


def test_what_nobody_read_is_believed_as_far_as_readings_bear_it_out(tmp_path: Path) -> None:
    reads = [{"patient": str(i), "rsna": str(int(i < 3)), "Pneumonia": "1"} for i in range(4)]
    reads += [{"patient": str(i), "rsna": str(int(i < 11))} for i in range(10, 20)]
    assert opacity_by_hint([dict.fromkeys(COLUMNS, "0") | row for row in reads]) == (0.1, 0.75)


def test_a_normal_film_is_empty_everywhere(tmp_path: Path) -> None:
    folder = pack(tmp_path / "cxr_nih", [{"file": "a.png", "patient": "p", "rsna": "0", "rsna_class": "Normal"}])
    (film,) = real_films(folder, rows_of(folder, held_out=is_held_out("p")), lungs)
    assert (film.whole == 0).all()
    assert (film.drawn == 0.5).all()
    assert set(np.unique(film.bits >> 2).tolist()) == {0, 1 << len(LABELS)}  # no label anywhere, lungs somewhere


def test_calibration_patients_are_no_training_patients(tmp_path: Path) -> None:
    folder = pack(
        tmp_path / "cxr_nih", [{"patient": f"{i:08d}"} for i in range(300)] + [{"patient": "v", "split": "val"}]
    )
    seen, kept = ({row["patient"] for row in rows_of(folder, held_out=held_out)} for held_out in (False, True))
    assert not seen & kept
    assert len(seen | kept) == 300  # none of the validation split
    assert 40 < len(kept) < 80  # one in five


def test_a_shadow_laid_into_a_real_film_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"file": "a.png", "patient": "p", "rsna": "0", "rsna_class": "Normal"}
    folder = pack(tmp_path / "cxr_nih", [row])
    (film,) = real_films(folder, rows_of(folder, held_out=is_held_out("p")), lungs)
    group = {"read": as_group([film])}
    monkeypatch.setattr(cxr_findings, "PLANTED", {"nodule": (1.0, 20.0, 21.0)})
    monkeypatch.setattr(cxr_findings, "MOVED", 0.0)
    plan, laid = Plan(shares={"read": 1}), 0
    for step in range(12):
        _, halves, masks, sides, sides_weight, whole, *_ = drawn_batch(group, plan, step)
        area = float(masks[0, NODULE].sum())
        inside = (halves[0] * masks[0, NODULE]).sum(dim=(1, 2))
        laid += area > 0
        assert area == 0 or area == pytest.approx(np.pi * 10.25**2, rel=0.35)  # a lobed disc of 20 to 21 pixels
        assert float(whole[0, NODULE]) == float(area > 0)
        assert sides[0, NODULE].tolist() == sides_weight[0, NODULE].tolist()  # known where it is, nowhere else
        assert [bool(side) for side in sides[0, NODULE]] == [bool(share > 0.3 * area > 0) for share in inside]
        assert not masks[0, MASS].any()
    assert laid >= 4  # the right of the film is too white for the others


def test_a_shadow_is_as_thick_as_it_is_wide_and_never_on_white() -> None:
    lungs = torch.zeros(3, 64, 64)
    lungs[:, 32, 32] = 1
    dark = torch.full((3, 1, 64, 64), 0.2)
    dark[2] = 1.0
    whiter, shadows = with_nodules(dark, lungs, torch.tensor([20.0, 0.0, 20.0]), torch.Generator().manual_seed(3))
    assert shadows[:, 0].any(dim=(1, 2)).tolist() == [True, False, False]
    torch.testing.assert_close(whiter[1:], dark[1:])
    added = (whiter - dark)[0, 0]
    # 0.35 to 0.8 of what 20 mm of soft tissue attenuates beyond lung, on what is 0.2 white already.
    assert 0.35 * 0.016 * 17 * 0.8 < float(added.max()) < 0.8 * 0.016 * 23 * 0.8
    assert float(added[32, 32]) == pytest.approx(float(added.max()), rel=0.15)
    assert not added[~(shadows[0, 0] > 0)].gt(0.05).any()


def test_either_side_makes_a_film_positive() -> None:
    """By hand: logits 0 and 0 are 1/2 each, so P = 3/4; the loss of a film that has it is ln(4/3)."""
    nothing = torch.zeros(1, 1, 2)
    maps, masks, none = torch.full((1, 1, 2, 2), -40.0), torch.zeros(1, 1, 8, 8), torch.zeros(1, 1)
    film = findings_loss(maps, nothing, masks, nothing, nothing, torch.ones(1, 1), torch.ones(1, 1), none)
    assert float(film) == pytest.approx(np.log(4 / 3), rel=1e-5)
    absent = findings_loss(maps, nothing, masks, nothing, nothing, none, torch.ones(1, 1), none)
    assert float(absent) == pytest.approx(np.log(4), rel=1e-5)
    side = findings_loss(maps, nothing, masks, nothing, torch.ones(1, 1, 2), none, none, none)
    assert float(side) == pytest.approx(np.log(2), rel=1e-5)


def test_a_finding_that_nobody_drew_costs_nothing_on_the_map() -> None:
    maps, masks, zeros = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 2)
    rest = (zeros, zeros, torch.zeros(1, 1), torch.zeros(1, 1))
    assert float(findings_loss(maps, zeros, masks, *rest, torch.zeros(1, 1))) == 0
    # An empty map that is known: 5 times the cross-entropy of one half, ln 2.
    assert float(findings_loss(maps, zeros, masks, *rest, torch.ones(1, 1))) == pytest.approx(5 * np.log(2), rel=1e-5)


def test_every_cell_is_drawn_as_often_and_alike_when_repeated(phantom: Film) -> None:
    films = [replace(small(phantom), cell="rare"), *([replace(small(phantom), cell="common")] * 9)]
    group = as_group(films)
    drawn = group.draw(400, torch.Generator().manual_seed(0))
    rare = group.cells[1] if len(group.cells[1]) == 1 else group.cells[0]
    assert 150 < int((drawn == rare[0]).sum()) < 250
    plan = Plan(shares={"phantom": 2})
    first, again, other = (drawn_batch({"phantom": group}, plan, step) for step in (3, 3, 4))
    for one, same in zip(first, again, strict=True):
        torch.testing.assert_close(one, same)
    assert not torch.equal(first[0], other[0])
    assert first[2].shape == (2, len(LABELS), 96, 96)


def test_a_run_that_was_interrupted_ends_as_if_it_was_not(tmp_path: Path, phantom: Film) -> None:
    plan = Plan(steps=4, width=8, shares={"phantom": 2}, checkpoint_every=2)
    group = {"phantom": as_group([small(phantom), small(phantom)])}

    def network() -> FindingsNetwork:
        torch.manual_seed(0)
        return FindingsNetwork(len(LABELS), 8)

    whole, curve = train(group, plan, tmp_path / "whole", lambda line: None, network())

    class Pulled(Exception):  # noqa: N818 - the plug
        pass

    class Plug(dict[str, object]):
        """Groups that are drawn from three times, then the plug is pulled."""

        drawn = 0

        def items(self):  # type: ignore[no-untyped-def]
            self.drawn += 1
            if self.drawn == 4:
                raise Pulled
            return super().items()

    with pytest.raises(Pulled):
        train(Plug(group), plan, tmp_path / "cut", lambda line: None, network())  # type: ignore[arg-type]
    resumed, again = train(group, plan, tmp_path / "cut", lambda line: None, network())
    np.testing.assert_allclose(again, curve, rtol=1e-4)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="of another run"):
        train(group, replace(plan, seed=2), tmp_path / "cut", lambda line: None, network())


def test_phantoms_are_kept_once_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from expert_models.train import findings_stages

    monkeypatch.setattr(findings_stages, "PHANTOM_ROWS", 96)
    monkeypatch.setattr(findings_stages, "SPACING_MM", (6.0, 6.0))
    first = list(phantoms([3], tmp_path, lambda line: None))
    monkeypatch.setattr(findings_stages, "phantom_film", None)  # would fail if it were called
    again = list(phantoms([3], tmp_path, lambda line: None))
    assert len(first) == len(again) == 1
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.bits, other.bits)
        np.testing.assert_array_equal(one.sides, other.sides)
