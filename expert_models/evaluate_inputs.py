"""The panel on pictures that its experts must not answer on, and on those that they must.

A picture counts as confident when anything but an organ is stated as present or absent on it, by whichever expert;
indeterminate, not assessed and refused are right. Wrong are held-out films and phantoms that were spoiled, drawings
(expert_models/train/unfit.py), CTs of no chest and, from the development data, real pictures of other things.
A mirrored film is told, not refused, and counted apart. A film as it is counts as refused when nothing was assessed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import dcmread

from dicom_io.assemble import Instance, assemble
from dicom_io.errors import DicomError
from dicom_io.phantom.patient import draw_patient
from dicom_io.phantom.project import radiograph
from dicom_io.study import Geometry, Modality, Series, Study, Volume
from expert_models.codes import ANATOMY
from expert_models.evaluate import Metric, Progress, mean_metric, phantom_seeds
from expert_models.evaluate_radiographs import MaskShelf, as_series
from expert_models.finding import Finding, Presence
from expert_models.panel import Panel
from expert_models.ports import Expert
from expert_models.train import unfit

FILMS = 20  # held-out films, and phantoms, that are spoiled in every way
PACKS = ("cxr_nih", "cxr_anatomy", "cxr_serial")
CHILD_YEARS = 6
Picture = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Case:
    """One picture or CT, of which kind it is and whose."""

    kind: str
    patient: str
    series: Series


def evaluate_inputs(
    experts: Iterable[Expert], source: str, limit: int | None = None, progress: Progress | None = None
) -> list[Metric]:
    """panel/wrong_input/confident (also by kind), /mirrored_told and panel/right_input/refused; [] without a film.

    All are shares of cases: target 0, 1 and 0.
    """
    asked = tuple(experts)
    most = limit or FILMS
    films = list(islice(_phantoms(source) if source.startswith("phantom:") else _films(Path(source)), most))
    if not films:
        return []
    confident: dict[str, list[tuple[float, str]]] = {}
    for case in [*_spoiled(films), *_drawn(source, most), *_volumes(), *_corpus(Path(source), most)]:
        is_confident = any(_is_confident(each) for each in _panel(asked).examine(_study(case.series)))
        confident.setdefault(case.kind, []).append((float(is_confident), case.patient))
        if progress and is_confident:
            progress(f"a confident finding on: {case.kind}")
    everything = [each for cases in confident.values() for each in cases]
    metrics = [_mean("panel/wrong_input/confident", everything)]
    metrics += [_mean(f"panel/wrong_input/{kind}/confident", cases) for kind, cases in confident.items()]
    mirrored = [(_tells(asked, as_series(unfit.mirrored(film), "PA"), "on the right"), name) for name, film in films]
    told = [(_tells(asked, as_series(film, "PA"), "may be unfit"), name) for name, film in films]
    refused = [(_refused(asked, as_series(film, "PA")), name) for name, film in films]
    return [
        *metrics,
        _mean("panel/wrong_input/mirrored_told", mirrored),
        _mean("panel/right_input/told", told),
        _mean("panel/right_input/refused", refused),
    ]


def _mean(name: str, cases: list[tuple[float, str]]) -> Metric:
    return mean_metric(name.replace(" ", "_"), *zip(*cases, strict=True))


def _study(series: Series) -> Study:
    return Study(uid="1", patient_key="", acquired_on=None, series=(series,))


def _is_confident(finding: Finding) -> bool:
    return finding.presence in (Presence.PRESENT, Presence.ABSENT) and finding.concept not in ANATOMY


def _panel(experts: Sequence[Expert]) -> Panel:
    """A new one for each case, so that masks are not kept."""
    return Panel(experts, MaskShelf())


def _tells(experts: Sequence[Expert], series: Series, words: str) -> float:
    study, panel = _study(series), _panel(experts)
    return float(any(words in each for each in panel.remarks(study, panel.examine(study))))


def _refused(experts: Sequence[Expert], series: Series) -> float:
    return float(all(each.presence is Presence.NOT_ASSESSED for each in _panel(experts).examine(_study(series))))


# ----------------------------------------------------------------------------------------------------------- the cases


def _films(data: Path) -> Iterator[tuple[str, Picture]]:
    """(patient, picture) of every held-out film of an adult, one pack after the other, a row of each in turn."""
    held_out = []
    for pack in PACKS:
        index = data / pack / "index.csv"
        if index.is_file():
            with index.open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if row["split"] != "train"]
            held_out += [(number, pack, row) for number, row in enumerate(rows)]
    for _, pack, row in sorted(held_out, key=lambda each: each[:2]):
        if float(row.get("age") or 50) >= 16:
            with Image.open(data / pack / row["file"]) as image:
                yield row["patient"], np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)


def _phantoms(source: str) -> Iterator[tuple[str, Picture]]:
    for seed in phantom_seeds(source):
        visit = draw_patient(seed, spacing_mm=3.0).visits[-1]
        yield str(seed), radiograph(visit, view="PA", rows=256, seed=seed).image


def _spoiled(films: Iterable[tuple[str, Picture]]) -> Iterator[Case]:
    for name, film in films:
        for kind, spoil in unfit.SPOILED.items():
            yield Case(kind, name, as_series(spoil(film), "PA"))
        yield Case("corner", name, as_series(unfit.corner(film, np.random.default_rng(film.size)), "PA"))
        child = as_series(film, "PA")
        yield Case("child", name, Series(child.uid, child.modality, child.volume, child.source, age_years=CHILD_YEARS))


def _drawn(source: str, most: int) -> Iterator[Case]:
    """Drawings, and phantoms from elsewhere, that were never trained on."""
    first = phantom_seeds(source).start if source.startswith("phantom:") else 1_000_000
    for seed in range(first, first + most):
        random = np.random.default_rng([seed, 3])
        for kind, draw in unfit.DRAWN.items():
            yield Case(kind, str(seed), as_series(draw(random), "PA"))
    for seed in range(first, first + min(most, 10)):
        random = np.random.default_rng([seed, 4])
        visit = draw_patient(seed, spacing_mm=3.0).visits[-1]
        for kind, take in unfit.FROM_PHANTOM.items():
            yield Case(kind, str(seed), as_series(take(visit, random), "PA"))


def _volumes() -> Iterator[Case]:
    """CTs of no chest, or of too little: a head, noise, nothing, three slices."""
    random = np.random.default_rng(7)
    slices, rows, columns = np.mgrid[-1:1:40j, -1:1:64j, -1:1:64j]
    radius = np.sqrt((slices / 0.95) ** 2 + (rows / 0.9) ** 2 + (columns / 0.75) ** 2)
    head = np.select([radius < 0.85, radius < 0.95, radius < 1.0], [35, 1000, 30], -1000).astype(np.int16)
    noise = random.normal(-300, 500, head.shape).clip(-1024, 3071).astype(np.int16)
    nothing = np.full(head.shape, -1024, np.int16)
    affine = np.array([[0, 0, 3.5, -112], [0, 3.5, 0, -112], [4.0, 0, 0, 0], [0, 0, 0, 1.0]])
    for kind, hu in (("head CT", head), ("noise CT", noise), ("empty CT", nothing), ("3-slice CT", head[:3])):
        source = tuple(str(number) for number in range(len(hu)))
        yield Case(kind, kind, Series("1", Modality.CT, Volume(hu, Geometry(affine)), source))


def _corpus(data: Path, most: int) -> Iterator[Case]:
    """Real DICOM of other parts of the body, sent as it is, and as if it were a chest film of no stated part."""
    index = data / "dicom_corpus" / "index.csv"
    if not index.is_file():
        return
    with index.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["modality"] in ("CR", "DX", "CT", "MR", "XA", "US", "NM")]
    for row in islice((row for row in rows if not row["body_part"].startswith(("CHEST", "THORAX"))), 4 * most):
        dataset = dcmread(data / "dicom_corpus" / row["file"], force=True)
        try:
            for series in assemble([Instance("file", dataset)], b"0" * 32):
                yield Case("other DICOM", row["file"], series)
        except (DicomError, ValueError):
            pass  # refused before it could reach an expert
        try:
            picture = np.asarray(dataset.pixel_array, dtype=np.float32)
        except Exception:  # noqa: S112 - broken files, and what no codec reads, are tests of the reader, not of the panel
            continue
        if picture.ndim == 2 and min(picture.shape) >= 128 and np.ptp(picture) > 0:
            picture = (picture - picture.min()) / np.ptp(picture)
            if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
                picture = 1 - picture
            yield Case("other picture", row["file"], as_series(picture, "PA"))
