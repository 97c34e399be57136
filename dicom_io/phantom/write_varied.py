"""A varied patient as DICOM: films of different views and makers, a lateral one, a CT with its own protocol."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from dicom_io.phantom.devices import draw_device_kinds
from dicom_io.phantom.lesion import LesionKind
from dicom_io.phantom.look import draw_look
from dicom_io.phantom.patient import Patient, draw_patient
from dicom_io.phantom.project import Radiograph
from dicom_io.phantom.scan import draw_protocol
from dicom_io.phantom.write import FILM_SPACING_MM, film_of, write_ct, write_film, write_truth

VIEWS = {"PA": 0.5, "AP": 0.25, "AP SUPINE": 0.25}


def write_varied(
    seed: int,
    folder: Path,
    *,
    visits: int = 2,
    kinds: Collection[LesionKind] | None = None,
    with_ct: bool = True,
    rows: int = 1024,
    film_spacing_mm: tuple[float, float, float] = FILM_SPACING_MM,
    ct_spacing_mm: tuple[float, float, float] | None = None,
) -> dict[str, Path]:
    """Write a varied patient: a frontal film per visit (xray-0-prior ... xray-N), beside a PA film at the last visit a
    lateral one (lateral-N), the last visit's CT (ct-N) and truth.json.

    Arguments as of write_patient; ct_spacing_mm None draws the slice thickness. Returns each folder by its name.
    """
    random = np.random.default_rng([seed, 73])
    views = [str(each) for each in random.choice(list(VIEWS), size=visits, p=list(VIEWS.values()))]
    devices = draw_device_kinds(random, views[-1])
    spacing = (float(random.choice([2.0, 2.5, 3.0, 5.0])), 0.9, 0.9) if ct_spacing_mm is None else ct_spacing_mm
    drawn: dict[tuple[bool, bool], Patient] = {}

    def pose(upright: bool, arms_down: bool) -> Patient:
        if (upright, arms_down) not in drawn:
            drawn[upright, arms_down] = draw_patient(
                seed,
                visits=visits,
                spacing_mm=film_spacing_mm,
                kinds=kinds,
                upright=upright,
                arms_down=arms_down,
                variety=True,
                devices=devices,
            )
        return drawn[upright, arms_down]

    written: dict[str, Path] = {}
    films: dict[int, Radiograph] = {}
    for number, view in enumerate(views):
        name = f"xray-{number}" + ("-prior" if number < visits - 1 else "")
        patient, look = pose(view != "AP SUPINE", True), draw_look(seed * 101 + number, view)
        films[number] = film_of(patient, number, view=view, rows=rows, look=look)
        write_film(patient, number, folder / name, films[number])
        written[name] = folder / name
    last = visits - 1
    if views[last] == "PA":
        side, look = pose(True, False), draw_look(seed * 101 + last, "LATERAL")
        film = film_of(side, last, view="LATERAL", rows=rows, look=look)
        write_film(side, last, folder / f"lateral-{last}", film)
        written[f"lateral-{last}"] = folder / f"lateral-{last}"
    lying = None
    if with_ct:
        lying = draw_patient(
            seed, visits=visits, spacing_mm=spacing, kinds=kinds, upright=False, variety=True, devices=devices
        )
        write_ct(lying, last, folder / f"ct-{last}", draw_protocol(seed))
        written[f"ct-{last}"] = folder / f"ct-{last}"
    upright = pose(views[last] != "AP SUPINE", True)
    written["truth.json"] = write_truth(upright, folder / "truth.json", films=films, lying=lying)
    return written
