from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dicom_io.phantom.devices import DeviceKind
from expert_models.card import packaged_card
from expert_models.evaluate_structures import evaluate_structures, label_of, phantom_cases, real_cases
from expert_models.train import cxr_structures
from expert_models.train.cxr_structures import PLAN, as_group, started
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
    assert [label.name for label in packaged_card("cxr-structures").labels] == [label_of(name) for name in CHANNELS]
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


def test_real_cases_are_those_that_taught_nothing_of_what_is_scored(drawn: Path) -> None:
    cases = {case.patient: case for case in real_cases(drawn)}
    assert set(cases) == {"device", "held"}
    assert (cases["held"].is_held_out, cases["device"].is_held_out) == (True, False)
    assert cases["device"].masks["endotracheal tube"].any()
    assert list(real_cases(drawn.parent / "nothing")) == []


def test_phantom_cases_measure_their_own_truth() -> None:
    (case,) = phantom_cases([next(s for s in range(1_000_000, 1_000_040) if drawn_phantom(s, 64).tips)])
    assert case.carina is not None
    assert case.masks["carina"][round(case.carina[0]), round(case.carina[1])]
    if case.masks["endotracheal tube"].any():
        assert case.tip is not None
        lowest = np.flatnonzero(case.masks["endotracheal tube"].any(axis=1))[-1]
        assert case.carina[0] - lowest == pytest.approx(case.tip, abs=6 / case.mm), "the tube ends at its tip"


class Knowing:
    """Reads nothing, so that every score is the worst there is."""

    def __init__(self) -> None:
        self.card = packaged_card("cxr-structures")

    def read(self, picture: np.ndarray) -> str:
        return "it is dark"

    def refuses(self, series: object) -> str:
        return "it is dark"


def test_what_is_not_read_counts_as_missed(drawn: Path) -> None:
    metrics = {each.name: each for each in evaluate_structures(Knowing(), str(drawn.parent))}  # type: ignore[arg-type]
    assert (metrics["cxr_structures/airways/dice"].value, metrics["cxr_structures/airways/dice"].n) == (0, 1)
    assert metrics["cxr_structures/endotracheal_tube/sensitivity"].value == 0
    assert metrics["cxr_structures/devices/false_alarms"].value == 0
    assert metrics["cxr_structures/endotracheal_tube/auroc"].value == 0.5


def test_a_step_learns_from_all_groups(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cxr_structures, "PHANTOMS", range(2))
    monkeypatch.setattr(cxr_structures, "PLAN", replace(PLAN, steps=1, shares={"phantom": 1, "whole": 1, "lungs": 1}))
    network, curve = cxr_structures.train_structures(drawn.parent, tmp_path, print)
    assert len(curve) == 1
    assert np.isfinite(curve[0][1])
    before = started(PLAN).state_dict()
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
