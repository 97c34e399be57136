"""The comparison with the prior, scored on synthetic patients with two visits, whose every change is known.

`compare/change/accuracy` is of the experts that ship, who make mistakes of their own: a lesion that they missed counts
as wrong. `compare/change/accuracy_given_truth` gives the true outlines to the same comparison, and so scores it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

import numpy as np

from dicom_io.phantom.lesion import Lesion, LesionKind
from dicom_io.phantom.patient import Patient, Visit, draw_patient
from dicom_io.phantom.project import radiograph
from dicom_io.study import Geometry, Modality, Series, Study, Volume
from expert_models.codes import (
    CARDIOMEGALY,
    CARDIOTHORACIC_RATIO,
    CONSOLIDATION,
    HEART,
    LUNG,
    LUNG_MASS,
    LUNG_NODULE,
    MILLILITER,
    PLEURAL_EFFUSION,
    PNEUMOTHORAX,
    RATIO,
    VOLUME,
)
from expert_models.compare import FOCAL, compare_findings
from expert_models.evaluate import Metric, Progress, mean_metric
from expert_models.evaluate_radiographs import MaskShelf
from expert_models.finding import Box, Change, Code, Compared, ExpertTag, Finding, Measurement, Presence, Region, Side
from expert_models.measure import cardiothoracic_ratio
from expert_models.panel import Panel
from expert_models.ports import Expert
from expert_models.register import register

PATIENTS = 16
CT_SPACING_MM = (2.5, 1.25, 1.25)
FILM_SPACING_MM, FILM_ROWS = 2.0, 512
NEAR_MM = 5.0  # beyond its box, a finding still is the lesion whose middle lies there
ENLARGED = 0.5  # cardiothoracic ratio
TRUTH = ExpertTag("truth", "1")
CONCEPTS = {
    LesionKind.NODULE: LUNG_NODULE,
    LesionKind.MASS: LUNG_MASS,
    LesionKind.EFFUSION: PLEURAL_EFFUSION,
    LesionKind.PNEUMOTHORAX: PNEUMOTHORAX,
    LesionKind.CONSOLIDATION: CONSOLIDATION,
    LesionKind.CARDIOMEGALY: CARDIOMEGALY,
}


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A patient's two studies of one kind, what was drawn, and both as findings of an expert that is never wrong."""

    name: str
    visits: tuple[Visit, Visit]
    changes: Mapping[str, Change]
    now: Study  # its only prior is the earlier study
    true_now: tuple[Finding, ...]
    true_then: tuple[Finding, ...]
    masks: MaskShelf


@dataclass(frozen=True, slots=True)
class Told:
    """One lesion of one patient: what became of it, and what was said of it; None where nothing was."""

    patient: str
    truth: Change
    said: Change | None


def evaluate_compare(
    experts: Sequence[Expert], seeds: Iterable[int], limit: int | None = None, progress: Progress | None = None
) -> list[Metric]:
    """Change of CT lesions and of hearts on films, by the experts and given the truth, and the registration's error."""
    by_experts: list[Told] = []
    by_truth: list[Told] = []
    errors: list[tuple[float, str]] = []
    for seed in islice(seeds, limit or PATIENTS):
        for pair in (ct_pair(seed), film_pair(seed)):
            panel = Panel(experts, pair.masks)
            findings = panel.examine(pair.now)
            by_experts += told(pair, findings, panel.compare(pair.now, findings))
            prior = pair.now.priors[0]
            by_truth += told(
                pair, pair.true_now, compare_findings(pair.now, pair.true_now, prior, pair.true_then, pair.masks)
            )
            errors += [(error, pair.name) for error in registration_errors_mm(pair)]
        if progress:
            progress(
                f"patient {seed}: {sum(each.said is each.truth for each in by_experts)} of {len(by_experts)} changes"
            )
    metrics = [*accuracy("accuracy", by_experts), *accuracy("accuracy_given_truth", by_truth)]
    if errors:
        metrics.append(mean_metric("compare/registration/error_mm", *zip(*errors, strict=True)))
    return metrics


def accuracy(name: str, told_of: Sequence[Told]) -> Iterator[Metric]:
    """The share of changes that were told right, in all and of each true class (its recall)."""
    groups = {"": list(told_of)} | {f"/{each.value}": [t for t in told_of if t.truth is each] for each in Change}
    for suffix, group in groups.items():
        if group:
            right = [float(each.said is each.truth) for each in group]
            yield mean_metric(f"compare/change/{name}{suffix}", right, [each.patient for each in group])


def told(pair: Pair, findings: Sequence[Finding], compared: Compared) -> Iterator[Told]:
    """What was said of every lesion whose change is known."""
    known = {each.id: each for each in findings}
    lesions = [{each.tracking_id: each for each in visit.lesions} for visit in pair.visits]
    for name, truth in pair.changes.items():
        gone = truth is Change.RESOLVED
        lesion, visit = (lesions[0][name], pair.visits[0]) if gone else (lesions[1][name], pair.visits[1])
        if lesion.kind not in _shown(pair):
            continue
        said = None
        for each in compared.comparisons:
            subject = each.prior_finding if gone else known.get(each.finding_id or "")
            study = pair.now.priors[0] if gone else pair.now
            if subject is not None and _is(lesion, visit, subject, study):
                said = each.change
                break
        yield Told(pair.name, truth, said)


def registration_errors_mm(pair: Pair) -> list[float]:
    """How far from its place in the prior each nodule of both visits is carried; CT alone."""
    then, now = ({e.tracking_id: (e, v) for e in v.lesions if CONCEPTS[e.kind] in FOCAL} for v in pair.visits)
    both = [name for name in now if name in then]
    if not both or pair.now.series[0].modality.is_projection:
        return []
    made = register(pair.now, pair.true_now, pair.now.priors[0], pair.true_then, pair.masks)
    carried = made.to_prior(np.array([_middle_mm(*now[name]) for name in both]))
    return [float(np.linalg.norm(there - _middle_mm(*then[name]))) for there, name in zip(carried, both, strict=True)]


def ct_pair(seed: int) -> Pair:
    """Two CT of one patient with two to five nodules, at times a mass, and often one other disease."""
    random = np.random.default_rng([seed, 53])
    kinds = [LesionKind.NODULE] * int(random.integers(2, 6)) + [LesionKind.MASS] * int(random.random() < 0.2)
    other = (LesionKind.EFFUSION, LesionKind.PNEUMOTHORAX, LesionKind.CONSOLIDATION, None)[int(random.integers(4))]
    patient = draw_patient(
        seed, visits=2, kinds=kinds + ([other] if other else []), spacing_mm=CT_SPACING_MM, upright=False
    )
    then, now = patient.visits
    changes = {name: Change(each) for name, each in now.changes.items()}
    masks = MaskShelf()
    studies = [
        _study(seed, number, visit.acquired_on, _ct(f"{seed}.{number}", visit))
        for number, visit in enumerate((then, now))
    ]
    truth = [
        (*_lungs(study.series[0], visit, masks), *_lesions(study.series[0], visit, masks, (then, now)))
        for study, visit in zip(studies, (then, now), strict=True)
    ]
    return _pair(f"CT of {seed}", patient, changes, studies, truth, masks)


def film_pair(seed: int) -> Pair:
    """Two PA films of one patient whose heart is, was or has become too large.

    A heart that grows beyond the ratio from which it is called enlarged is newly so; below it, it is no more.
    """
    patient = draw_patient(seed, visits=2, kinds=[LesionKind.CARDIOMEGALY], spacing_mm=FILM_SPACING_MM)
    masks, studies, truth = MaskShelf(), [], []
    enlarged: list[bool] = []
    for number, visit in enumerate(patient.visits):
        film = radiograph(visit, view="PA", rows=FILM_ROWS, seed=seed + number)
        uid = f"{seed}.{number}"
        volume = Volume(
            np.ascontiguousarray(film.image[None], dtype=np.float32), Geometry(np.eye(4), is_calibrated=False)
        )
        series = Series(uid, Modality.DX, volume, (f"{uid}.1",), view="PA", body_part="CHEST")
        studies.append(_study(seed, number, visit.acquired_on, series))
        ratio = cardiothoracic_ratio(*(film.masks[name] for name in ("right_lung", "left_lung", "heart")))
        measured = (Measurement(CARDIOTHORACIC_RATIO, ratio, RATIO),)
        region = (_region(series, film.masks["heart"][None], masks),)
        enlarged.append(ratio > ENLARGED)
        presence = Presence.PRESENT if enlarged[-1] else Presence.ABSENT
        truth.append(
            (
                Finding("f1", HEART, Presence.PRESENT, TRUTH, regions=region, measurements=measured),
                Finding("f1", CARDIOMEGALY, presence, TRUTH, regions=region, measurements=measured),
            )
        )
    now = patient.visits[1]
    crossed = {(False, True): (Change.LARGER, Change.NEW), (True, False): (Change.SMALLER, Change.RESOLVED)}
    drawn, called = crossed.get((enlarged[0], enlarged[1]), (None, None))
    changes = {
        name: called if called is not None and Change(each) is drawn else Change(each)
        for name, each in now.changes.items()
    }
    return _pair(f"films of {seed}", patient, changes, studies, truth, masks)


def _pair(
    name: str,
    patient: Patient,
    changes: Mapping[str, Change],
    studies: Sequence[Study],
    truth: Sequence[Sequence[Finding]],
    masks: MaskShelf,
) -> Pair:
    then, now = patient.visits
    current = replace(studies[1], priors=(studies[0],))
    return Pair(name, (then, now), changes, current, _numbered(truth[1]), _numbered(truth[0]), masks)


def _shown(pair: Pair) -> set[LesionKind]:
    """The kinds that are judged: on films the heart, on CT what an expert that ships measures."""
    if pair.now.series[0].modality.is_projection:
        return {LesionKind.CARDIOMEGALY}
    return set(CONCEPTS) - {LesionKind.CARDIOMEGALY}


def _study(seed: int, number: int, when: datetime, series: Series) -> Study:
    return Study(f"{seed}.{number}", f"phantom {seed}", when, (series,))


def _ct(uid: str, visit: Visit) -> Series:
    source = tuple(f"{uid}.{number}" for number in range(visit.hu.shape[0]))
    return Series(uid, Modality.CT, Volume(visit.hu, visit.geometry), source, body_part="CHEST")


def _numbered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(replace(each, id=f"f{number}") for number, each in enumerate(findings, 1))


def _region(series: Series, mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], masks: MaskShelf) -> Region:
    where = np.argwhere(mask)
    (a, b, c), (d, e, f) = where.min(axis=0).tolist(), (where.max(axis=0) + 1).tolist()
    box = Box((a, b, c), (d, e, f))
    return Region(series.uid, box, series.source[a], masks.save(mask[box.slices]))


def _lungs(series: Series, visit: Visit, masks: MaskShelf) -> Iterator[Finding]:
    for side in (Side.RIGHT, Side.LEFT):
        region = _region(series, visit.structures[f"{side.value}_lung"], masks)
        yield Finding("f1", LUNG, Presence.PRESENT, TRUTH, side=side, regions=(region,))


def _lesions(series: Series, visit: Visit, masks: MaskShelf, visits: Sequence[Visit]) -> Iterator[Finding]:
    """A finding for each lesion, and what another visit has and this one has not as absent."""
    for lesion in visit.lesions:
        a, b, c = lesion.box
        box = Box((a.start, b.start, c.start), (a.stop, b.stop, c.stop))
        yield Finding(
            "f1",
            CONCEPTS[lesion.kind],
            Presence.PRESENT,
            TRUTH,
            side=Side(lesion.side) if lesion.side else None,
            regions=(Region(series.uid, box, series.source[a.start], masks.save(lesion.mask)),),
            measurements=(Measurement(VOLUME, lesion.volume_ml, MILLILITER),),
        )
    here = {(each.kind, each.side) for each in visit.lesions}
    for kind, side in {(each.kind, each.side) for other in visits for each in other.lesions} - here:
        if CONCEPTS[kind] not in FOCAL:
            yield Finding("f1", CONCEPTS[kind], Presence.ABSENT, TRUTH, side=Side(side) if side else None)
    if not any(CONCEPTS[each.kind] in FOCAL for each in visit.lesions):
        yield Finding("f1", LUNG_NODULE, Presence.ABSENT, TRUTH)


def _is(lesion: Lesion, visit: Visit, finding: Finding, study: Study) -> bool:
    """Whether a finding is of a lesion: of several in a lung by place, of one on a side by its name and side."""
    concept: Code = CONCEPTS[lesion.kind]
    if concept not in FOCAL:
        names = (concept, HEART) if concept == CARDIOMEGALY else (concept,)
        return finding.concept in names and (finding.side is None or finding.side.value == lesion.side)
    if finding.concept not in FOCAL or not finding.regions:
        return False
    geometry = study.series_of(finding.regions[0].series_uid).volume.geometry
    at = geometry.to_index([_middle_mm(lesion, visit)])[0]
    slack = NEAR_MM / np.array(geometry.spacing_mm)
    box = finding.regions[0].box
    return bool(np.all(at >= np.array(box.start) - slack) and np.all(at <= np.array(box.stop) - 1 + slack))


def _middle_mm(lesion: Lesion, visit: Visit) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The middle of the lesion's voxels, (3,) mm."""
    middle = np.array(lesion.start) + np.argwhere(lesion.mask).mean(axis=0)
    return np.asarray(visit.geometry.to_patient([middle])[0])
