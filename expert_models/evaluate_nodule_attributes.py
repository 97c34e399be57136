"""The attributes of nodules, scored against the readers of LIDC-IDRI and against phantoms whose nodules are known.

The nodules' own masks are given, so that only the description is scored, not the finding. The suspicion of readers is
their opinion: nothing here is a score of cancer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dicom_io.phantom.patient import LesionKind, draw_patient
from dicom_io.study import Volume
from expert_models import codes
from expert_models.ct_axes import axes_of
from expert_models.evaluate import Metric, bootstrapped, mean_metric, phantom_seeds
from expert_models.evaluate_radiographs import auroc
from expert_models.finding import Box, Code
from expert_models.nodule_attributes import SUSPICIOUS, NoduleAttributes, described, suspicion_of, values_of
from expert_models.train.nodule_attributes import agreement, calibration_error, marked, table

Progress = Callable[[str], None]
Float64 = npt.NDArray[np.float64]

SCALES = ("texture", "spiculation", "lobulation", "margin", "malignancy")
TYPES = (codes.GROUND_GLASS, codes.PART_SOLID, codes.SOLID)
NAMED = {1: codes.GROUND_GLASS, 3: codes.PART_SOLID, 5: codes.SOLID}  # ratings of texture that name a type
DRAWN = {"ground_glass": codes.GROUND_GLASS, "part_solid": codes.PART_SOLID, "solid": codes.SOLID}
PHANTOMS = 10
NODULES_EACH = 5


def evaluate_attributes(source: str, *, limit: int | None = None, progress: Progress | None = None) -> list[Metric]:
    """The metrics of one source, see `wetread evaluate experts`; an empty list when the folder has no such pack."""
    say = progress or (lambda _: None)
    if source.startswith("phantom:"):
        return _of_phantoms(phantom_seeds(source)[: limit or PHANTOMS], say)
    pack = Path(source) / "ct_nodules"
    return _of_readers(pack, limit, say) if (pack / "index.csv").is_file() else []


def balanced_accuracy(said: npt.NDArray[np.int64], true: npt.NDArray[np.int64]) -> float:
    """The mean over the kinds that occur of the share that is called right."""
    return float(np.mean([(said[true == kind] == kind).mean() for kind in np.unique(true)]))


def _of_readers(pack: Path, limit: int | None, say: Progress) -> list[Metric]:
    expert, rows = NoduleAttributes(), table(pack, training=False)[:limit]
    rated, long_mm, ball_mm = [], [], []
    for row in rows:
        volume, box, mask = marked(pack, row)
        rated.append(expert.heads.ratings(described(volume, box, mask)))
        long_mm.append(axes_of(mask, box, volume.geometry)[0].length_mm)
        ball_mm.append((6 * mask.sum() * volume.geometry.voxel_ml * 1000 / np.pi) ** (1 / 3))
    say(f"{len(rows)} nodules described")
    patients = [row["patient"] for row in rows]
    metrics = [
        mean_metric(f"lidc/{name}/abs_error", [abs(_median(each[name]) - int(row[name])) for each, row in
                                              zip(rated, rows, strict=True)], patients)
        for name in SCALES
    ]  # fmt: skip
    stated_mm = np.array([float(row["diameter_mm"]) for row in rows])
    for name, measured in (("diameter", long_mm), ("equivalent_diameter", ball_mm)):
        metrics.append(mean_metric(f"lidc/{name}/abs_error_mm", list(np.abs(measured - stated_mm)), patients))
    return metrics + _suspicion(rated, rows, np.array(ball_mm)) + _texture(rated, rows) + _stated(expert, rated, rows)


def _suspicion(rated: Sequence[dict[str, Float64]], rows: Sequence[dict[str, str]], ball_mm: Float64) -> list[Metric]:
    """Suspicion against the readers' votes: 4 and 5 against 1 and 2; and against the column `label`."""
    suspicion = np.array([suspicion_of(each) for each in rated])
    rating = np.array([int(row["malignancy"]) for row in rows])
    label = np.array([row["label"] == "1" for row in rows])
    patients = np.array([row["patient"] for row in rows])
    decided, high = rating != 3, rating >= SUSPICIOUS
    calcium = np.array([each["calcification"][1] for each in rated])
    has_calcium = np.array([int(row["calcification"]) < 6 for row in rows])
    return [
        *_auroc("lidc/malignancy/auroc", suspicion[decided], high[decided], patients[decided]),
        *_auroc("lidc/malignancy/auroc_of_size_alone", ball_mm[decided], high[decided], patients[decided]),
        *_auroc("lidc/label/auroc", suspicion, label, patients),
        *_auroc("lidc/calcification/auroc", calcium, has_calcium, patients),
        bootstrapped("lidc/malignancy/ece", lambda k: calibration_error(suspicion[k], high[k]), list(patients)),
    ]


def _texture(rated: Sequence[dict[str, Float64]], rows: Sequence[dict[str, str]]) -> list[Metric]:
    """The likeliest type of those nodules whose rating names one, stated or not."""
    texture = np.array([int(row["texture"]) for row in rows])
    named = np.isin(texture, list(NAMED))
    said = np.array([_likeliest(each) for each in rated])[named]
    true = np.array([TYPES.index(NAMED[each]) for each in texture[named]])
    patients = [row["patient"] for row, is_named in zip(rows, named, strict=True) if is_named]
    return [
        mean_metric("lidc/texture/type_accuracy", list((said == true).astype(float)), patients),
        bootstrapped("lidc/texture/type_balanced_accuracy", lambda k: balanced_accuracy(said[k], true[k]), patients),
    ]


def _stated(
    expert: NoduleAttributes, rated: Sequence[dict[str, Float64]], rows: Sequence[dict[str, str]]
) -> list[Metric]:
    """How often an attribute is stated, and how often it is then right."""
    right, metrics = agreement(rows), []
    for question, name in ((codes.ATTENUATION_TYPE, "texture"), (codes.CALCIFICATION, "calcification")):
        said = [next((e.value for e in expert.stated(each) if e.concept == question), None) for each in rated]
        hits = [(bool(right[value][at]), rows[at]["patient"]) for at, value in enumerate(said) if value is not None]
        patients = [row["patient"] for row in rows]
        metrics.append(mean_metric(f"lidc/{name}/stated", [float(each is not None) for each in said], patients))
        if hits:
            metrics.append(mean_metric(f"lidc/{name}/stated_right", [float(h) for h, _ in hits], [p for _, p in hits]))
    return metrics


def _of_phantoms(seeds: Sequence[int], say: Progress) -> list[Metric]:
    """The type of phantom nodules: the likeliest of all, and of those where one is stated."""
    expert = NoduleAttributes()
    said, true, stated, names = [], [], [], []
    for seed in seeds:
        visit = draw_patient(
            seed, kinds=[LesionKind.NODULE] * NODULES_EACH, spacing_mm=(2.0, 1.0, 1.0), upright=False
        ).visits[-1]
        volume = Volume(visit.hu, visit.geometry)
        for lesion in visit.lesions:
            if lesion.kind is LesionKind.NODULE and lesion.attenuation is not None:
                start, shape = lesion.start, lesion.mask.shape
                box = Box(start, (start[0] + shape[0], start[1] + shape[1], start[2] + shape[2]))
                ratings = expert.rate(volume, box, lesion.mask)
                types = [e.value for e in expert.stated(ratings) if e.concept == codes.ATTENUATION_TYPE]
                stated.append(next(iter(types), None))
                said.append(_likeliest(ratings))
                true.append(TYPES.index(DRAWN[lesion.attenuation]))
                names.append(f"phantom {seed}")
        say(f"phantom {seed}: {len(names)} nodules described")
    return _type_metrics(np.array(said), np.array(true), stated, names) if names else []


def _type_metrics(
    said: npt.NDArray[np.int64], true: npt.NDArray[np.int64], stated: Sequence[Code | None], names: Sequence[str]
) -> list[Metric]:
    hits = [(float(TYPES[true[at]] == value), names[at]) for at, value in enumerate(stated) if value is not None]
    metrics = [
        mean_metric("nodule_attributes/type_accuracy", list((said == true).astype(float)), names),
        bootstrapped("nodule_attributes/type_balanced_accuracy", lambda k: balanced_accuracy(said[k], true[k]), names),
        mean_metric("nodule_attributes/type_stated", [float(value is not None) for value in stated], names),
    ]
    if hits:
        right = mean_metric("nodule_attributes/type_stated_right", [h for h, _ in hits], [name for _, name in hits])
        metrics.append(right)
    return metrics


def _auroc(
    name: str, scores: Float64, truth: npt.NDArray[np.bool_], patients: npt.NDArray[np.str_]
) -> Iterator[Metric]:
    """Nothing where all cases are of one class: there is no AUROC."""
    if truth.any() and not truth.all():
        yield bootstrapped(name, lambda index: auroc(truth[index], scores[index]), list(patients))


def _likeliest(ratings: dict[str, Float64]) -> int:
    values = values_of(ratings)
    return int(np.argmax([values[each] for each in TYPES]))


def _median(probabilities: Float64) -> int:
    """The rating that half of the probability lies at or below."""
    return int((probabilities.cumsum() >= 0.5).argmax()) + 1
