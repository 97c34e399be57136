"""What a measurement varies by when nothing has changed: phantoms taken twice, their sizes measured twice.

    python bench/repeatability.py [--only ct] [--patients 5] [--nodules 12] [--films 24]

CT: every patient has that many nodules, each measured by the nodule expert's network in what lies around it, on three
scans of the same breath: two thin ones (1.5 and 1.25 mm, standard kernel) whose voxels lie elsewhere and whose noise is
another, and a thick one (2.5 mm, lung or soft kernel). Films: every patient has one disease, on two films of other
exposure, collimation and noise; its size is the share of the half of the chest that the findings expert outlines.
Printed are the repeatability coefficients: 95 % of two measurements differ by less, as a factor of the first
(exp(1.96 rms ln(b / a)) - 1), by size; with the median, and how many were found both times. Each nodule has a line:
seed, kind, true volume and the three measured ones. Nodules that ran into a neighbour are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from math import exp, log, pi

import numpy as np

from dicom_io.phantom.lesion import Lesion, LesionKind
from dicom_io.phantom.patient import Visit, draw_patient
from dicom_io.phantom.project import radiograph
from dicom_io.phantom.scan import Protocol, scan
from dicom_io.study import Geometry, Volume
from expert_models.chest_findings import SIDES, ChestFindings
from expert_models.ct_grid import upright_grid
from expert_models.ct_lungs import Lungs
from expert_models.ct_nodules import CtNodules
from expert_models.finding import Side

FIRST_SEED = 1_000_000  # training uses the seeds below
THIN, ALIKE, THICK = (1.5, 0.9, 0.9), (1.25, 1.0, 1.0), (2.5, 1.0, 1.0)  # mm: slice, row, column
BANDS_MM = (3.0, 8.0, 12.0, 30.0)
AGREED = 0.25  # what a volume must change by for the British Thoracic Society
AROUND_MM = 35.0  # with the network's own margin just short of one window
LABELS = {
    LesionKind.EFFUSION: "effusion",
    LesionKind.PNEUMOTHORAX: "pneumothorax",
    LesionKind.CONSOLIDATION: "opacity",
    LesionKind.ATELECTASIS: "atelectasis",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["ct", "films"])
    parser.add_argument("--patients", type=int, default=5)
    parser.add_argument("--nodules", type=int, default=12)
    parser.add_argument("--films", type=int, default=24)
    arguments = parser.parse_args()
    if arguments.only in (None, "ct"):
        volumes = [row for number in range(arguments.patients) for row in nodules_of(number, arguments.nodules)]
        for name, column in (("alike", 2), ("another kernel, slices of 2.5 mm", 3)):
            tell_volumes(name, [(row[1], row[column]) for row in volumes])
            tell_volumes(f"{name}, solid", [(row[1], row[column]) for row in volumes if row[0]])
            tell_volumes(f"{name}, subsolid", [(row[1], row[column]) for row in volumes if not row[0]])
    if arguments.only in (None, "films"):
        films(arguments.films)


def coefficient(pairs: Sequence[tuple[float, float]]) -> float:
    """The repeatability coefficient of pairs that are not 0, as a share of the first."""
    return exp(1.96 * float(np.sqrt(np.mean([log(b / a) ** 2 for a, b in pairs])))) - 1


def tell_volumes(name: str, pairs: Sequence[tuple[float, float]]) -> None:
    found = [pair for pair in pairs if min(pair) > 0]
    print(f"{name}: {len(found)} of {len(pairs)} measured twice")
    for low, high in pairwise(BANDS_MM):
        band = [pair for pair in found if low <= (6000 / pi * sum(pair) / 2) ** (1 / 3) < high]
        if band:
            changes = [abs(log(b / a)) for a, b in band]
            beyond = sum(each > log(1 + AGREED) for each in changes)
            print(
                f"  {low:.0f} to {high:.0f} mm: n {len(band)}, {100 * coefficient(band):.0f} %, "
                f"median {exp(float(np.median(changes))) - 1:.1%}, {beyond} beyond {AGREED:.0%}"
            )


def nodules_of(number: int, count: int) -> Iterator[tuple[bool, float, float, float]]:
    """Of each nodule of a patient whether it is solid, and its mL on the three scans, 0 where it was not found."""
    seed, expert = FIRST_SEED + number, CtNodules()
    kernel = ("LUNG", "SOFT")[number % 2]
    taken = []
    for index, (spacing, name) in enumerate(((THIN, "STANDARD"), (ALIKE, "STANDARD"), (THICK, kernel))):
        patient = draw_patient(seed, spacing_mm=spacing, kinds=[LesionKind.NODULE] * count, upright=False)
        visit = patient.visits[0]
        protocol = Protocol(name, noise_hu=12.0, phase="", kvp=120, exposure_mas=60)
        taken.append(
            {each.tracking_id: volume_ml(expert, each, visit, protocol, 10 * seed + index) for each in visit.lesions}
        )
    for lesion in visit.lesions:
        first, second, third = (each.get(lesion.tracking_id, 0.0) for each in taken)
        print(
            f"{seed} {lesion.attenuation} {lesion.volume_ml:.3f}: {first:.3f} {second:.3f} {third:.3f} mL", flush=True
        )
        if not is_merged(lesion.volume_ml, max(first, second, third)):
            yield lesion.attenuation == "solid", first, second, third


def is_merged(true_ml: float, measured_ml: float) -> bool:
    """Whether a measured volume holds a neighbour too: so many nodules in one chest may touch."""
    return measured_ml > max(1.5 * true_ml, true_ml + 3.0)


def volume_ml(expert: CtNodules, lesion: Lesion, visit: Visit, protocol: Protocol, seed: int) -> float:
    """What the expert measures of one nodule; 0 where no candidate overlaps it."""
    middle = np.array(lesion.start) + np.argwhere(lesion.mask).mean(axis=0)
    reach = np.ceil((AROUND_MM + 16) / np.array(visit.geometry.spacing_mm)).astype(int)
    low = np.maximum(np.round(middle).astype(int) - reach, 0)
    high = np.minimum(np.round(middle).astype(int) + reach + 1, visit.hu.shape)
    part = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    affine = visit.geometry.affine.copy()
    affine[:3, 3] = visit.geometry.to_patient([low])[0]
    cut = replace(visit, hu=visit.hu[part], geometry=Geometry(affine), structures={}, lesions=())
    volume = Volume(scan(cut, protocol, seed), cut.geometry)
    truth = lesion.on_grid(visit.hu.shape)[part]
    best, overlap = 0.0, 0
    for each in expert.mark(volume, around(volume, cut.geometry.to_patient([middle - low])[0]))[0]:
        shared = int((truth[each.box.slices] & each.mask).sum())
        if shared > overlap:
            best, overlap = float(each.mask.sum()) * volume.geometry.voxel_ml, shared
    return best


def around(volume: Volume, middle_mm: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Lungs:
    """A ball of lung about a place, to be searched as if it were one."""
    grid = upright_grid(volume, 2.0)
    index = np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
    gap_mm = np.linalg.norm(grid.geometry.to_patient(index) - middle_mm, axis=1).reshape(grid.shape)
    ball = gap_mm <= AROUND_MM
    return Lungs(grid, np.zeros(grid.shape, np.float32), ((Side.BILATERAL, ball),), np.zeros(grid.shape, bool))


def films(count: int) -> None:
    """Of each kind of disease how often it was outlined on both films, by what its share varies, and the true share."""
    expert = ChestFindings()
    told: dict[LesionKind, list[tuple[float, float, float]]] = {kind: [] for kind in LABELS}
    for number in range(count):
        kind = list(LABELS)[number % len(LABELS)]
        visit = draw_patient(FIRST_SEED + number, spacing_mm=2.5, kinds=[kind]).visits[0]
        first, second = (shares(expert, visit, LABELS[kind], 2 * number + each) for each in (0, 1))
        told[kind].append((first[0], second[0], first[1]))
    for kind, rows in told.items():
        both = [row for row in rows if min(row) > 0]
        if len(both) > 2:
            varied = 100 * coefficient([row[:2] for row in both])
            agreed = np.corrcoef([row[0] for row in both], [row[2] for row in both])[0, 1]
            print(f"{kind.value}: {len(both)} of {len(rows)} twice, {varied:.0f} %; with the truth r {agreed:.2f}")
            print("  " + "; ".join(f"{a:.1%} {b:.1%} of {truth:.1%}" for a, b, truth in both))


def shares(expert: ChestFindings, visit: Visit, label: str, seed: int) -> tuple[float, float]:
    """The share of the half of the chest in which a label is seen (0 where the film is not read), and the true one."""
    film = radiograph(visit, view="PA", rows=768, seed=seed)
    lesion = visit.lesions[0]
    side = SIDES.index(Side(lesion.side or "right"))
    reading = expert.read(film.image.astype(np.float32))
    if isinstance(reading, str):
        return 0.0, 0.0
    half = reading.box.lift(reading.halves[side].astype(np.float32)) > 0.5
    regions = reading.regions(label, [side])
    seen = float(np.any(regions, axis=0).sum()) if regions else 0.0
    return seen / float(half.sum()), float((film.masks[lesion.tracking_id] & half).sum()) / float(half.sum())


if __name__ == "__main__":
    main()
