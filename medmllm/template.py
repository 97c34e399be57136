"""The writer that needs no model: findings, comparisons and evidence to sectioned prose, by rule.

Every sentence carries what it rests on, and passes medmllm.verify. What is present, absent, indeterminate and not
assessed is worded apart; what no expert looked at is said; nothing is silently "normal".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from dicom_io.study import Modality, Series, Study
from expert_models import codes
from expert_models.finding import Code, Comparison, Finding
from medmllm import wording
from medmllm.changes import comparison_statements
from medmllm.impression import impression
from medmllm.report import Grounding, Report, Section, Sentence
from medmllm.scrub import scrubbed_indication
from medmllm.statements import finding_statements
from medmllm.verify import verify
from rag.evidence import Evidence

EXPECTED = (  # what a reader of the chest looks for; whatever no expert answered is named in the report
    codes.CARDIOMEGALY,
    codes.LUNG_NODULE,
    codes.LUNG_MASS,
    codes.CONSOLIDATION,
    codes.ATELECTASIS,
    codes.PULMONARY_EDEMA,
    codes.PLEURAL_EFFUSION,
    codes.PNEUMOTHORAX,
)
NEVER_ASSESSED = ("the bones", "the mediastinum", "the upper abdomen", "lines and devices")
MOST_REASONS = 3


class TemplateWriter:
    """Writes by rule. It satisfies medmllm.ports.Writer and never fails on a valid study."""

    def write(
        self,
        study: Study,
        findings: Sequence[Finding],
        comparisons: Sequence[Comparison],
        evidence: Sequence[Evidence],
        notices: Sequence[str] = (),
    ) -> Report:
        """A draft report with writer "template"; each sentence has been checked by medmllm.verify."""
        leading = [each for each in findings if each.led_by is None]  # the others say the same as one of these
        sentences = (
            indication(study),
            *technique(study),
            *comparison_section(study, comparisons),
            *finding_statements(leading, study),
            *comparison_statements(comparisons, findings, study),
            scope(findings),
            *impression(study, leading, comparisons, evidence),
        )
        report = Report(
            study_uid=study.uid,
            sentences=sentences,
            findings=tuple(findings),
            comparisons=tuple(comparisons),
            evidence=tuple(evidence),
            writer="template",
            notices=tuple(notices),
        )
        return verify(report, study)


def indication(study: Study) -> Sentence:
    """Why the study was made, as it was requested, without names and dates."""
    attributes = Grounding(attributes=("ReasonForTheRequestedProcedure",))
    text = scrubbed_indication(study)
    if not text:
        return Sentence("No indication was sent with the study.", Section.INDICATION, attributes)
    return Sentence(f"As requested: {text.rstrip('.')}.", Section.INDICATION, attributes)


def technique(study: Study) -> Iterator[Sentence]:
    """What was read and, with the reasons, what was left out."""
    for series in study.series:
        text, attributes = _series(series)
        yield Sentence(f"{wording.upper_first(text)}.", Section.TECHNIQUE, Grounding(attributes=attributes))
        if not series.volume.geometry.is_calibrated:
            yield Sentence(
                "The pixel spacing of this series is not stated, so no lengths are given in millimetres.",
                Section.TECHNIQUE,
                Grounding(attributes=("PixelSpacing",)),
            )
    if not study.series:
        yield Sentence("No series could be read.", Section.TECHNIQUE, Grounding(attributes=("Modality",)))
    yield from _left_out(study)


def _series(series: Series) -> tuple[str, tuple[str, ...]]:
    name = wording.picture(series)
    if series.modality.is_projection:
        view = "" if wording.view(series) else ", view position not stated"
        return f"{name} ({series.modality}{view})", ("Modality", "ViewPosition", "BodyPartExamined")
    slices = series.volume.shape[0]
    attributes = ("Modality", "BodyPartExamined", "ImagePositionPatient")
    if not series.volume.geometry.is_calibrated:
        return f"{name}, {wording.plural(slices, 'slice')}", attributes
    spacing = series.volume.geometry.spacing_mm[0]
    apart = f", {spacing:.2f}".rstrip("0").rstrip(".") + " mm apart" if slices > 1 else ""
    return f"{name}, {wording.plural(slices, 'slice')}{apart}", attributes


def _left_out(study: Study) -> Iterator[Sentence]:
    reasons = Counter(
        wording.clause(each.reason)
        for each in (*study.left_out, *(out for series in study.series for out in series.left_out))
    )
    if not reasons:
        return
    number = sum(reasons.values())
    common = [f"{reason} ({times})" for reason, times in reasons.most_common(MOST_REASONS)]
    if len(reasons) > MOST_REASONS:
        common.append(f"other reasons ({number - sum(times for _, times in reasons.most_common(MOST_REASONS))})")
    verb = "part of the study was" if number == 1 else "parts of the study were"
    text = f"{wording.upper_first(wording.count(number))} {verb} left out: {'; '.join(common)}."
    yield Sentence(text, Section.TECHNIQUE, Grounding(attributes=("SOPInstanceUID",)))


def comparison_section(study: Study, comparisons: Sequence[Comparison]) -> Iterator[Sentence]:
    """What the study was compared with, or why with nothing."""
    if not comparisons:
        attributes = ("PatientID", "StudyDate") if not study.priors else ("StudyDate", "Modality", "ViewPosition")
        yield Sentence(_no_comparison(study), Section.COMPARISON, Grounding(attributes=attributes))
        return
    for uid in dict.fromkeys(each.prior_study_uid for each in comparisons):
        ids = tuple(each.id for each in comparisons if each.prior_study_uid == uid)
        prior = next((each for each in study.priors if each.uid == uid), None)
        grounding = Grounding(comparison_ids=ids, attributes=("StudyDate", "Modality"))
        pictures = wording.listed(list(dict.fromkeys(wording.picture(each) for each in prior.series))) if prior else ""
        what = f" ({pictures})" if pictures else ""
        yield Sentence(f"Compared with {wording.earlier_study(study, uid)}{what}.", Section.COMPARISON, grounding)


def _no_comparison(study: Study) -> str:
    if not study.priors:
        return "No comparison: no prior study of this patient is available."
    prior = study.priors[0]
    which = wording.earlier_study(study, prior.uid)
    now = {series.modality is Modality.CT for series in study.series}
    if not now & {series.modality is Modality.CT for each in study.priors for series in each.series}:
        theirs = wording.listed(list(dict.fromkeys(wording.picture(each) for each in prior.series)))
        return f"No comparison: the available prior is of another kind ({theirs or 'nothing readable'}, {which})."
    return f"No comparison: no finding of this study could be matched with {which}."


def scope(findings: Sequence[Finding], seen: Collection[Code] = ()) -> Sentence:
    """What nobody looked at: no expert was asked, so the reader has to. seen: what a model speaks of by itself."""
    asked = {each.concept for each in findings} | set(seen)
    if codes.LUNG_OPACITY in asked:
        asked.add(codes.CONSOLIDATION)  # on a film every consolidation is an opacity
    names = [wording.noun(concept) for concept in EXPECTED if concept not in asked]
    text = f"This report does not assess {wording.listed([*names, *NEVER_ASSESSED], 'or')}."
    ids = tuple(each.id for each in findings)
    return Sentence(text, Section.FINDINGS, Grounding(finding_ids=ids, attributes=("Modality",)))
