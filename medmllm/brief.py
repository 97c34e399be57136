"""What our own model is told beside the pictures, in few words: study, findings, comparisons, evidence.

A small model is trained on exactly this form; a large one is instructed in prose (medmllm/prompt.py). Markers stand
where pictures and regions go: `<picture>`, `<volume>`, `<slice>` and `<region>`, one each, in the order of the lists of
`Brief`. It holds no name, no date and no raw UID.

The answer to a brief of a report is what the model sees and no expert says. Two sentences have a meaning of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dicom_io.study import Series, Study
from expert_models import codes
from expert_models.finding import Comparison, Finding, Presence, Region
from medmllm import wording
from medmllm.changes import sizes
from medmllm.scrub import scrub, scrubbed_indication
from rag.evidence import Evidence

NO_CHEST = "The picture shows no chest to report on"
NOTHING_MORE = "Nothing more is seen"
PICTURE, VOLUME, SLICE, REGION = "<picture>", "<volume>", "<slice>", "<region>"
MOST_PICTURES = 2
MOST_SLICES = 4
MOST_OF_INDICATION = 200  # characters
# Organs that the model did not learn with, and does not need for what it says. Nor is it told the lungs' areas.
UNTOLD = codes.ANATOMY - {codes.LUNG, codes.HEART}


@dataclass(frozen=True, slots=True)
class Brief:
    """text, and what its markers stand for. slices: (series, index). regions lie on the pictures, or on the slices.

    priors, prior_volumes: for each picture and volume the one of the prior study that it is compared with, None where
    there is none.
    """

    text: str
    pictures: tuple[Series, ...] = ()
    priors: tuple[Series | None, ...] = ()
    volumes: tuple[Series, ...] = ()
    prior_volumes: tuple[Series | None, ...] = ()
    slices: tuple[tuple[Series, int], ...] = ()
    regions: tuple[Region, ...] = ()


def brief(
    study: Study,
    findings: Sequence[Finding],
    comparisons: Sequence[Comparison],
    evidence: Sequence[Evidence],
    task: str = "report",
) -> Brief:
    """The input of one task. Findings with a region on a shown picture or slice have a `<region>` for each."""
    pictures = tuple(each for each in study.series if each.modality.is_projection)[:MOST_PICTURES]
    volumes = tuple(each for each in study.series if not each.modality.is_projection)[:1]
    slices = tuple((series, index) for series in volumes for index in best_slices(series, findings))
    lines = [f"{wording.picture(each)} {PICTURE}" for each in pictures]
    lines += [f"{wording.picture(each)} {VOLUME}" for each in volumes]
    lines += [f"slice {index + 1} {SLICE}" for _, index in slices]
    lines.append(_prior(study, comparisons))
    if indication := scrubbed_indication(study):
        lines.append(_line("indication", indication[:MOST_OF_INDICATION]))
    regions: list[Region] = []
    for finding in findings:
        if finding.concept in UNTOLD:
            continue
        here = [each for each in finding.regions if _is_shown(each, pictures, slices)]
        regions += here
        lines.append(finding_line(finding) + f" {REGION}" * len(here))
    known = {each.id: each for each in findings}
    lines += [_comparison(each, known.get(each.finding_id or "")) for each in comparisons]
    lines += [f"{each.id} {' '.join(each.finding_ids)}".rstrip() for each in evidence]
    lines.append(task)
    priors = tuple(_earlier(each, study, comparisons) for each in pictures)
    prior_volumes = tuple(_earlier_volume(study, comparisons) for _ in volumes)
    return Brief("\n".join(lines), pictures, priors, volumes, prior_volumes, slices, tuple(regions))


def _prior_study(study: Study, comparisons: Sequence[Comparison]) -> Study | None:
    """The study that is compared with, else the newest prior."""
    uid = next((each.prior_study_uid for each in comparisons), None)
    return next((each for each in study.priors if uid in (None, each.uid)), None)


def _earlier(series: Series, study: Study, comparisons: Sequence[Comparison]) -> Series | None:
    """Of the prior's radiographs one of the same view, else another frontal or another lateral one, else none."""
    prior = _prior_study(study, comparisons)
    earlier = [each for each in prior.series if each.modality.is_projection] if prior else []
    sideways = _is_lateral(series)
    alike = [each for each in earlier if _is_lateral(each) is sideways]
    return next((each for each in alike if each.view == series.view), next(iter(alike), None))


def _earlier_volume(study: Study, comparisons: Sequence[Comparison]) -> Series | None:
    prior = _prior_study(study, comparisons)
    return next((each for each in prior.series if not each.modality.is_projection), None) if prior else None


def _is_lateral(series: Series) -> bool:
    return "lateral" in (wording.view(series) or "").lower()


def _prior(study: Study, comparisons: Sequence[Comparison]) -> str:
    prior = _prior_study(study, comparisons)
    return "no prior" if prior is None else f"prior {wording.earlier_study(study, prior.uid)}"


def finding_line(finding: Finding) -> str:
    """ "f3 left pleural effusion present 93% volume 120 mL"."""
    words = [finding.id, wording.thing(finding), finding.presence.value.replace("_", " ")]
    if finding.presence is Presence.INDETERMINATE and finding.probability is not None:
        words.append(wording.percent(finding.probability))
    if finding.reason:
        words.append(scrub(finding.reason))
    if told := [each for each in finding.measurements if each.code != codes.LUNG_AREA_RATIO]:
        words.append(wording.measured(told))
    return _line(*words)


def _line(*words: str) -> str:
    """Words as one line that no text from outside can end, or put a marker into."""
    return " ".join(" ".join(words).split()).replace("<", "‹").replace(">", "›")


def _comparison(comparison: Comparison, finding: Finding | None) -> str:
    """ "c1 f3 larger: cardiothoracic ratio 0.55, previously 0.50" or "c2 right pleural effusion resolved"."""
    prior = comparison.prior_finding
    what = comparison.finding_id or (wording.thing(prior) if prior else "")
    return _line(comparison.id, what, f"{comparison.change.value}{sizes(comparison, finding)}")


def best_slices(series: Series, findings: Sequence[Finding]) -> list[int]:
    """The best slices of located findings, largest finding first; organs do not choose."""
    wanted: list[int] = []
    located = [each for each in findings if each.concept not in codes.ANATOMY]
    located.sort(key=lambda each: each.presence is not Presence.PRESENT)
    for finding in located:
        for region in finding.regions:
            if region.series_uid == series.uid:
                best = series.source.index(region.instance_uid) if region.instance_uid in series.source else -1
                inside = region.box.start[0] <= best < region.box.stop[0]
                wanted.append(best if inside else int(region.box.centre[0]))
    slices = series.volume.shape[0]
    chosen = list(dict.fromkeys(min(slices - 1, each) for each in wanted))[:MOST_SLICES]
    return sorted(chosen) or [slices // 2]


def _is_shown(region: Region, pictures: Sequence[Series], slices: Sequence[tuple[Series, int]]) -> bool:
    if any(region.series_uid == each.uid for each in pictures):
        return True
    return any(
        region.series_uid == series.uid and region.box.start[0] <= index < region.box.stop[0]
        for series, index in slices
    )
