"""The experts on chest CT, scored: lungs on phantoms, nodules on phantoms and on real nodules pasted into phantoms.

The source is that of `wetread evaluate experts`: a folder laid out like the development data, of which ct_nodules is
used (rows whose split is "train" never are), or `phantom:START-STOP`. Everything goes through the shipped experts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.phantom.patient import LesionKind, Visit, draw_patient
from dicom_io.study import Volume
from expert_models.ct_axes import axes_of
from expert_models.ct_grid import on_source
from expert_models.ct_lungs import Lungs, find_lungs
from expert_models.ct_nodules import CtNodules, Marked
from expert_models.ct_paste import Crop, Pose, nodule_crops, paste
from expert_models.evaluate import Metric, bootstrapped, mean_metric
from expert_models.finding import Box, Side

Progress = Callable[[str], None]
Mask = npt.NDArray[np.bool_]

FROC_RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)  # false positives per scan, as in the LUNA16 challenge
FIRST_SEED = 1_000_000  # training uses the seeds below
SCANS = 30
SPACING_MM = (2.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Nodule:
    """A nodule that is known: its place and mask in the scan, whose it is."""

    box: Box
    mask: Mask
    patient: str


@dataclass(frozen=True, slots=True)
class Scan:
    """A CT with all of its nodules known. visit: the phantom that it is, or whose lungs it has."""

    name: str
    volume: Volume
    nodules: tuple[Nodule, ...]
    visit: Visit


@dataclass(frozen=True, slots=True)
class Read:
    """What the expert made of one scan: per nodule its best score (nan: missed) and long axis error; false scores."""

    name: str
    hit_scores: tuple[float, ...]
    axis_errors_mm: tuple[float, ...]  # of the nodules that were hit at all
    false_scores: tuple[float, ...]


def evaluate_ct(source: str, *, limit: int | None = None, progress: Progress | None = None) -> list[Metric]:
    """The metrics of one source; an empty list when the folder has no pack for these experts.

    limit: at most so many scans. ValueError when a range of seeds is not one.
    """
    say = progress or (lambda _: None)
    if source.startswith("phantom:"):
        start, stop = seeds_of(source)
        scans = phantom_scans(range(start, min(stop, start + (limit or SCANS))))
        return _scored(scans, say, with_lungs=True)
    pack = Path(source) / "ct_nodules"
    if not (pack / "index.csv").is_file():
        return []
    return _scored(pasted_scans(list(nodule_crops(pack, training=False)), limit or SCANS), say, with_lungs=False)


def seeds_of(source: str) -> tuple[int, int]:
    """START and STOP of "phantom:START-STOP", half open. ValueError when it is no such range."""
    first, dash, last = source.removeprefix("phantom:").partition("-")
    if not (dash and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise ValueError(f"{source!r} is not of the form phantom:START-STOP with START below STOP")
    return int(first), int(last)


def phantom_scans(seeds: Sequence[int]) -> Iterator[Scan]:
    """Phantom CTs with one to four nodules of their own each, every fifth with a mass, and often other disease."""
    for seed in seeds:
        random = np.random.default_rng([seed, 31])
        kinds = [LesionKind.NODULE] * int(random.integers(1, 5)) + [LesionKind.MASS] * int(random.random() < 0.2)
        kinds += [kind for kind in (LesionKind.CONSOLIDATION, LesionKind.EFFUSION) if random.random() < 0.25]
        visit = draw_patient(seed, kinds=kinds, spacing_mm=SPACING_MM, upright=False).visits[-1]
        nodules: list[Nodule] = []
        for lesion in visit.lesions:
            if lesion.kind in (LesionKind.NODULE, LesionKind.MASS):
                stop = tuple(a + b for a, b in zip(lesion.start, lesion.mask.shape, strict=True))
                box = Box(lesion.start, (stop[0], stop[1], stop[2]))
                nodules.append(Nodule(box, lesion.mask, f"phantom {seed}"))
        yield Scan(f"phantom {seed}", Volume(visit.hu, visit.geometry), tuple(nodules), visit)


def pasted_scans(crops: Sequence[Crop], count: int, *, first_seed: int = FIRST_SEED) -> Iterator[Scan]:
    """Phantom lungs without nodules of their own, with two to four real ones pasted in, each crop used once in turn.

    Not more scans than the crops can fill.
    """
    order = np.random.default_rng(first_seed).permutation(len(crops)).tolist()
    for number in range(count):
        random = np.random.default_rng([first_seed + number, 37])
        take = [order.pop() for _ in range(min(int(random.integers(2, 5)), len(order)))]
        if not take:
            return
        others = [kind for kind in (LesionKind.CONSOLIDATION, LesionKind.EFFUSION) if random.random() < 0.2]
        visit = draw_patient(first_seed + number, kinds=others, spacing_mm=SPACING_MM, upright=False).visits[-1]
        hu = visit.hu.copy()
        nodules: list[Nodule] = []
        lung = visit.structures["left_lung"] | visit.structures["right_lung"]
        for lesion in visit.lesions:
            lung = lung & ~lesion.on_grid(lung.shape)
        free = np.argwhere(lung)
        for each in take:
            laid = _laid(random, hu, visit, crops[each], free, nodules)
            if laid is not None:
                nodules.append(laid)
        yield Scan(f"pasted {number}", Volume(hu, visit.geometry), tuple(nodules), visit)


def _laid(
    random: np.random.Generator,
    hu: npt.NDArray[np.int16],
    visit: Visit,
    crop: Crop,
    free: npt.NDArray[np.int64],
    others: Sequence[Nodule],
) -> Nodule | None:
    """One crop pasted at a free place of the lungs, clear of the other nodules; None when none was found."""
    for _ in range(20):
        centre_mm = visit.geometry.to_patient(free[random.integers(len(free))])[0]
        gaps = [np.linalg.norm(visit.geometry.to_patient(each.box.centre)[0] - centre_mm) for each in others]
        if any(gap < 45.0 for gap in gaps):
            continue
        sign = random.integers(0, 2, 3) * 2 - 1
        laid = paste(hu, visit.geometry, crop, Pose(centre_mm, (int(sign[0]), int(sign[1]), int(sign[2]))))
        return None if laid is None else Nodule(laid[0], laid[1], crop.patient)
    return None


def read(scan: Scan, expert: CtNodules, lungs: Lungs) -> Read:
    """What the expert marks in these lungs, matched to the scan's nodules."""
    return matched(scan, expert.mark(scan.volume, lungs)[0])


def matched(scan: Scan, marked: Sequence[Marked]) -> Read:
    """Candidates beside the scan's nodules: a candidate hits the nodule that its mask touches."""
    best: dict[int, Marked] = {}
    false_scores = []
    for each in marked:
        hits = [number for number, nodule in enumerate(scan.nodules) if _overlap(each, nodule)]
        if not hits:
            false_scores.append(each.probability)
        for number in hits:
            if number not in best or each.probability > best[number].probability:
                best[number] = each
    scores = tuple(best[k].probability if k in best else float("nan") for k in range(len(scan.nodules)))
    errors = tuple(
        abs(found.long_axis.length_mm - _true_axis_mm(scan.nodules[number], scan.volume))
        for number, found in sorted(best.items())
    )
    return Read(scan.name, scores, errors, tuple(false_scores))


def sensitivity_at(reads: Sequence[Read], rate: float) -> float:
    """Share of the nodules found when so many false positives per scan are allowed; nan without nodules."""
    hits = np.array([score for each in reads for score in each.hit_scores])
    if not hits.size:
        return float("nan")
    false = np.sort([score for each in reads for score in each.false_scores])[::-1]
    allowed = int(np.floor(rate * len(reads)))
    threshold = false[allowed] if allowed < len(false) else -1.0  # candidates must score above the first too many
    return float(np.mean(hits > threshold))


def froc(reads: Sequence[Read]) -> float:
    """Mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan."""
    return float(np.mean([sensitivity_at(reads, rate) for rate in FROC_RATES]))


def _scored(scans: Iterator[Scan], say: Progress, *, with_lungs: bool) -> list[Metric]:
    expert = CtNodules()
    reads: list[Read] = []
    dice: dict[Side, list[float]] = {Side.LEFT: [], Side.RIGHT: []}
    volume_errors: list[float] = []
    names: list[str] = []
    for number, scan in enumerate(scans, start=1):
        lungs = find_lungs(scan.volume)
        reads.append(read(scan, expert, lungs))
        if with_lungs:
            scores, error = lung_scores(scan, lungs)
            for side, value in scores.items():
                dice[side].append(value)
            volume_errors.append(error)
        names.append(scan.name)
        say(f"CT {number}: {len(scan.nodules)} nodules, {len(reads[-1].false_scores)} false candidates")
    metrics = _nodule_metrics(reads)
    if with_lungs and names:
        metrics += [mean_metric(f"ct_lungs/{side.value}/dice", values, names) for side, values in dice.items()]
        metrics.append(mean_metric("ct_lungs/volume/rel_error", volume_errors, names))
    return metrics


def _nodule_metrics(reads: Sequence[Read]) -> list[Metric]:
    if not any(each.hit_scores for each in reads):
        return []
    names = [each.name for each in reads]
    errors = [(error, each.name) for each in reads for error in each.axis_errors_mm]
    metrics = [
        bootstrapped("ct_nodules/froc", lambda index: froc([reads[k] for k in index]), names),
        bootstrapped(
            "ct_nodules/sensitivity_at_1fp", lambda index: sensitivity_at([reads[k] for k in index], 1.0), names
        ),
    ]
    if errors:
        metrics.append(
            mean_metric("ct_nodules/long_axis/abs_error_mm", [e for e, _ in errors], [name for _, name in errors])
        )
    return metrics


def lung_scores(scan: Scan, lungs: Lungs) -> tuple[dict[Side, float], float]:
    """Dice of each lung on the scan's voxels (0 where it was not found), and the relative error of the volume of both.

    Nodules and other lesions of a phantom's lung belong to it.
    """
    found = dict(lungs.sides)
    dice, found_voxels, true_voxels = {}, 0, 0
    for side in (Side.LEFT, Side.RIGHT):
        truth = scan.visit.structures[f"{side.value}_lung"]
        mask = np.zeros(truth.shape, bool)
        if side in found:
            box, native = on_source(found[side].astype(np.float32), 0.5, lungs.grid, scan.volume)
            mask[box.slices] = native
        dice[side] = 2.0 * float((mask & truth).sum()) / float(mask.sum() + truth.sum())
        found_voxels, true_voxels = found_voxels + int(mask.sum()), true_voxels + int(truth.sum())
    return dice, abs(found_voxels / true_voxels - 1.0)


def _overlap(marked: Marked, nodule: Nodule) -> bool:
    """Whether the two masks share a voxel, or lie within one voxel of each other."""
    low = np.maximum(marked.box.start, nodule.box.start)
    high = np.minimum(marked.box.stop, nodule.box.stop)
    if np.any(high + 1 < low):
        return False
    start = np.minimum(marked.box.start, nodule.box.start) - 1
    shape = np.maximum(marked.box.stop, nodule.box.stop) + 1 - start
    first, second = np.zeros(shape, bool), np.zeros(shape, bool)
    for canvas, box, mask in ((first, marked.box, marked.mask), (second, nodule.box, nodule.mask)):
        canvas[tuple(slice(a - s, b - s) for a, b, s in zip(box.start, box.stop, start, strict=True))] = mask
    return bool((ndimage.binary_dilation(first) & second).any())


def _true_axis_mm(nodule: Nodule, volume: Volume) -> float:
    return axes_of(nodule.mask, nodule.box, volume.geometry)[0].length_mm
