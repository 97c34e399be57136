from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dicom_io.phantom.devices import DeviceKind
from expert_models.card import packaged_card
from expert_models.chest_structures import ChestStructures, Structures
from expert_models.evaluate import Metric
from expert_models.evaluate_structures import Case, evaluate_structures, label_of, phantom_cases, real_cases
from expert_models.preprocess import Letterbox
from expert_models.train import cxr_structures, structures_calibration
from expert_models.train.cxr_structures import PLAN, as_group, started, without_devices
from expert_models.train.structure_films import CHANNELS, DEVICES, DRAWN, FRAME, drawn_phantom, phantoms, real_films


def pack(folder: Path, rows: dict[str, tuple[str, str, int]]) -> Path:
    """A cxr_anatomy pack. rows: file -> (split, annotated, bits of the mask's middle)."""
    (folder / "images").mkdir(parents=True)
    with (folder / "index.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ("file", "mask", "patient", "view", "classes", "annotated", "split"))
        table.writeheader()
        for name, (split, annotated, bits) in rows.items():
            Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).save(folder / f"images/{name}.png")
            mask = np.zeros((256, 256), np.uint16)
            mask[64:192, 64:192] = bits
            Image.fromarray(mask).save(folder / f"images/{name}-mask.png")
            table.writerow(
                {"file": f"images/{name}.png", "mask": f"images/{name}-mask.png", "patient": name, "view": "AP"}
                | {"classes": "", "annotated": annotated, "split": split}
            )
    return folder


LUNGS, HEART, AIRWAYS, TUBE = 0b11, 0b100, 0b1000, 1 << DRAWN["endotracheal_tube"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(
        tmp_path_factory.mktemp("data") / "cxr_anatomy",
        {
            "lungs": ("train", "right_lung|left_lung", LUNGS),
            "whole": ("train", "all", LUNGS | HEART | AIRWAYS),
            "device": ("train", "all", LUNGS | HEART | AIRWAYS | TUBE),
            "held": ("val", "all", LUNGS | HEART | AIRWAYS),
        },
    )


def known(film_known: np.ndarray) -> set[str]:
    return {name for name, weight in zip(CHANNELS, film_known, strict=True) if weight}


def test_the_card_has_the_channels_in_their_order() -> None:
    names = [label_of(name) for name in CHANNELS if name not in DEVICES]
    assert [label.name for label in packaged_card("cxr-structures").labels] == names
    assert packaged_card("cxr-structures").input.size == FRAME


def test_what_was_not_drawn_is_unknown_and_devices_are_absent_where_all_was_drawn(drawn: Path) -> None:
    films = {film.name: film for film in real_films(drawn)}
    assert set(films) == {"lungs.png", "whole.png"}, "no film of a device, none that is held out"
    assert known(films["lungs.png"].known) == {"right_lung", "left_lung"}
    drawn_devices = {name for name in DRAWN if name in DEVICES}
    assert known(films["whole.png"].known) == {"right_lung", "left_lung", "heart", "airways"} | drawn_devices
    assert films["whole.png"].bits[192, 192] == 0b1111, "the first four channels, and no device"
    # A margin of 64 of 256 pixels is 96 of the frame's 384.
    assert [int(np.argwhere(films["whole.png"].bits).min()), int(np.argwhere(films["whole.png"].bits).max())] == [
        96,
        287,
    ]


def test_a_phantom_is_drawn_once_and_known_everywhere(tmp_path: Path) -> None:
    seed = next(s for s in range(40) if {d.kind for d in drawn_phantom(s, 64).devices} >= {DeviceKind.CENTRAL_LINE})
    (film,) = phantoms([seed], tmp_path, print)
    (path,) = tmp_path.glob("*.npz")
    first = path.read_bytes()
    (again,) = phantoms([seed], tmp_path, print)
    assert path.read_bytes() == first
    assert (again.bits == film.bits).all()
    assert known(film.known) == set(CHANNELS)
    for name in ("right_lung", "ribs", "airways", "abdomen", "carina", "central_line"):
        assert (film.bits >> CHANNELS.index(name) & 1).any(), name
    carina = np.argwhere(film.bits >> CHANNELS.index("carina") & 1).mean(axis=0)
    airways = film.bits >> CHANNELS.index("airways") & 1
    assert airways[round(carina[0]), round(carina[1])]


def test_real_cases_are_held_out_and_wholly_drawn(drawn: Path) -> None:
    (case,) = real_cases(drawn)
    assert case.patient == "held"
    assert case.masks["airways"].sum() == 128 * 128
    assert list(real_cases(drawn.parent / "nothing")) == []


def test_phantom_cases_measure_their_own_truth() -> None:
    (case,) = phantom_cases([1_000_001])
    assert case.carina is not None
    assert case.masks["carina"][round(case.carina[0]), round(case.carina[1])]
    assert case.shift is not None
    rows = np.flatnonzero(case.masks["airways"].any(axis=1))
    high = case.masks["airways"][rows[0] : int(case.carina[0])]
    inner = [
        np.flatnonzero(case.masks[f"{side} clavicle"].any(axis=0))[end] for side, end in (("right", -1), ("left", 0))
    ]
    middle_of_trachea = np.argwhere(high)[:, 1].mean()
    assert case.shift == pytest.approx(middle_of_trachea - sum(inner) / 2, abs=8 / case.mm)


class Blind(ChestStructures):
    """Reads nothing, so that every score is the worst there is."""

    def read(self, picture: np.ndarray) -> str:
        return "it is dark"


class Seeing(ChestStructures):
    """Sees the masks of a case, moved down by some rows of the picture."""

    def __init__(self, cases: Sequence[Case], rows: int) -> None:
        super().__init__()
        self.cases, self.rows = cases, rows

    def read(self, picture: np.ndarray) -> Structures:
        (case,) = [each for each in self.cases if each.picture is picture]
        box = Letterbox((picture.shape[0], picture.shape[1]), FRAME)
        known = {label.name: np.roll(case.masks[label.name], self.rows, axis=0) for label in self.card.labels}
        maps = {name: box.lay(mask.astype(np.float32)) for name, mask in known.items()}
        return Structures(maps, dict.fromkeys(maps, 0.5), box)


def named(metrics: Sequence[Metric]) -> dict[str, Metric]:
    return {each.name.removeprefix("cxr_structures/"): each for each in metrics}


def test_what_is_not_read_counts_as_missed(drawn: Path) -> None:
    metrics = named(evaluate_structures(Blind(), real_cases(drawn)))
    assert {name: (each.value, each.n) for name, each in metrics.items()} == {"airways/dice": (0, 1)}


def test_errors_are_in_millimetres_and_what_is_missed_has_a_share() -> None:
    """All is seen four rows too low: edges and points are off by 4 rows, lengths across by none."""
    cases = list(phantom_cases([1_000_001]))
    (case,) = cases
    metrics = named(evaluate_structures(Seeing(cases, 4), cases))
    off = 4 * case.mm
    assert metrics["carina/abs_error_mm"].value == pytest.approx(off, abs=0.5 * off)
    assert metrics["diaphragm/abs_error_mm"].value == pytest.approx(off, abs=0.3 * off)
    assert metrics["tracheal_shift/abs_error_mm"].value < off
    assert metrics["carina/found"].value == metrics["tracheal_shift/measured"].value == 1
    assert 0.8 < metrics["right_clavicle/dice"].value < 1
    blind = named(evaluate_structures(Blind(), cases))
    for name in ("carina/found", "tracheal_shift/measured", "diaphragm/found"):
        assert blind[name].value == 0
    assert "carina/abs_error_mm" not in blind
    assert blind["ribs/dice"].value == 0


def test_a_shift_counts_from_what_hardly_any_normal_film_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clavicles' middle is column 100 and the lungs are 200 wide: a trachea in column 120 is off by a tenth."""
    folder = tmp_path / "cxr_nih"
    folder.mkdir()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "a.png")
    (folder / "index.csv").write_text("file,split,rsna_class\na.png,train,Normal\na.png,val,Normal\na.png,train,\n")
    truth: list[Case] = []

    class Reading(ChestStructures):
        """Phantoms as they are; of any other film the trachea in column 120."""

        def __init__(self, **_: object) -> None:
            super().__init__()

        def read(self, picture: np.ndarray) -> Structures:
            if picture.shape[0] > 64:
                truth.extend(phantom_cases([900_000]) if not truth else ())
                return Seeing([replace(truth[0], picture=picture)], 0).read(picture)
            maps = {label.name: np.zeros(FRAME, np.float32) for label in self.card.labels}
            maps["right lung"][50:300, 0:110], maps["left lung"][50:300, 90:200] = 1, 1
            maps["right clavicle"][40:45, 20:91], maps["left clavicle"][40:45, 110:190] = 1, 1
            maps["airways"][20:140, 118:123], maps["carina"][138:143, 118:123] = 1, 1
            return Structures(maps, dict.fromkeys(maps, 0.5), Letterbox((64, 64), FRAME))

    monkeypatch.setattr(structures_calibration, "ChestStructures", Reading)
    card, network = packaged_card("cxr-structures"), nn.Identity()
    alone = structures_calibration.calibrate(card, network, None, print, [900_000])
    assert alone["least_shift"] < 0.01, "what is seen as it is, is measured as it is"
    both = structures_calibration.calibrate(card, network, tmp_path, print, [900_000])
    assert both == {"least_shift": pytest.approx(0.1, abs=1e-6)}


def test_outputs_for_devices_are_dropped_and_the_others_say_the_same() -> None:
    network = started(PLAN).eval()
    frame = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        whole, kept = network(frame), without_devices(network)(frame)
    assert kept.shape[1] == len(CHANNELS) - len(DEVICES) == len(packaged_card("cxr-structures").labels)
    torch.testing.assert_close(kept, whole[:, : kept.shape[1]])


def test_a_step_learns_from_all_groups(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cxr_structures, "PHANTOMS", range(2))
    monkeypatch.setattr(cxr_structures, "PLAN", replace(PLAN, steps=1, shares={"phantom": 1, "whole": 1, "lungs": 1}))
    network, curve = cxr_structures.train_structures(drawn.parent, tmp_path, print)
    assert len(curve) == 1
    assert np.isfinite(curve[0][1])
    before = without_devices(started(PLAN)).state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_it_starts_as_the_anatomy_network_but_for_the_last_layer() -> None:
    network = started(PLAN)
    name = "encoder._conv_stem.weight"
    from safetensors.torch import load_file

    from expert_models.card import checked_weights

    anatomy = load_file(checked_weights(packaged_card("cxr-anatomy")))
    assert torch.equal(network.state_dict()[name], anatomy[name].float())
    head = [key for key in anatomy if anatomy[key].shape != network.state_dict()[key].shape]
    assert head
    assert all("segmentation_head" in key for key in head)


def test_groups_keep_their_films(drawn: Path) -> None:
    films = list(real_films(drawn))
    group = as_group(films)
    assert group.pictures.shape == (2, 1, *FRAME)
    assert group.bits.dtype == torch.uint16
    assert group.known.shape == (2, len(CHANNELS))
