"""The panel: every expert on every series it reads, and what changed since the prior. One that fails stops no other."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt

from dicom_io.study import Series, Study
from expert_models.codes import LUNG, PICTURE_FITNESS
from expert_models.compare import comparable_prior, compare_findings, of_kind
from expert_models.ct_lungs import IMAGED_VOLUME
from expert_models.errors import ExpertError, ExpertStopped, MasksUnavailable
from expert_models.finding import Code, Compared, Comparison, ExpertTag, Finding, Presence
from expert_models.input_check import said
from expert_models.ports import Examinations, Expert, Masks
from expert_models.reconcile import disagreements, reconciled
from expert_models.remembered import Remembered, fingerprint

LOG = logging.getLogger(__name__)


class Panel:
    """Several experts behind the one port that the pipeline calls."""

    def __init__(self, experts: Sequence[Expert], masks: Masks, kept: Examinations | None = None) -> None:
        """kept: where examinations are kept, so that nothing is examined twice; None: the newest, in memory."""
        self._checks = tuple(each for each in experts if PICTURE_FITNESS in each.concepts)
        self._experts = tuple(each for each in experts if PICTURE_FITNESS not in each.concepts)
        self._masks = masks
        self._kept = kept or Remembered()
        self._failed_checks = Remembered()  # a check that failed on a picture is not asked about it again

    def examine(self, study: Study) -> tuple[Finding, ...]:
        """Every expert's findings on the study, ids f1, f2 ... Never raises for a failing expert.

        Of several reconstructions of one place in one CT, each expert reads the one with the most slices. A study that
        every expert refuses becomes not_assessed with the reasons: silence would read as normal. Of several findings
        that say the same, one leads the others, see expert_models/reconcile.py.
        """
        return self._examine(study, self._experts)

    def compare(self, study: Study, findings: Sequence[Finding]) -> Compared:
        """What changed since the newest prior that can be compared; empty without one.

        Radiographs are compared with radiographs and CT with CT, and a finding only with one of the same expert. An
        expert that could not assess the study is not asked about its prior. What failed is named in a remark, and the
        rest stands. Raises MasksUnavailable.
        """
        comparisons: list[Comparison] = []
        remarks: list[str] = []
        for is_projection in (True, False):
            try:
                compared = self._changes(study, findings, is_projection)
                comparisons += compared.comparisons
                remarks += compared.remarks
            except MasksUnavailable:
                raise
            except Exception as exc:  # whatever it is, the findings must stand
                LOG.error("a comparison with the prior failed: %s", type(exc).__name__)
                kind = "Radiographs were" if is_projection else "CT was"
                remarks.append(f"{kind} not compared with the prior: it failed ({type(exc).__name__}).")
        made = (replace(each, id=f"c{number}") for number, each in enumerate(comparisons, 1))
        return Compared(tuple(made), tuple(remarks))

    def remarks(self, study: Study, findings: Sequence[Finding]) -> tuple[str, ...]:
        """What the reader must know of the examination besides its findings, in sentences.

        That is: pictures that are unfit or may be, reconstructions that were left unread for a finer one, and experts
        that contradict one another.
        """
        told = [*self._doubts(study, findings), *self._unread(study), *_cut(study, findings), *disagreements(findings)]
        return tuple(dict.fromkeys(told))

    def _examine(self, study: Study, experts: Sequence[Expert]) -> tuple[Finding, ...]:
        found: list[tuple[str, Finding]] = []  # with the UID of the series, "" where it is of none
        refused: list[tuple[Expert, str]] = []
        for expert in experts:
            findings, reasons = self._ask(expert, study)
            found += findings
            refused += [(expert, reason) for reason in reasons]
        if not found:
            found = [("", each) for each in _nothing_assessed(experts, refused)]
        failed = [each for series in study for each in self._checked(series) if each.presence is Presence.NOT_ASSESSED]
        found += [("", each) for each in failed]
        numbered = [(uid, replace(each, id=f"f{number}")) for number, (uid, each) in enumerate(found, 1)]
        told = {each.id: each for uid, each in numbered if not uid}
        for series in study:
            told |= {e.id: e for e in reconciled([each for uid, each in numbered if uid == series.uid], self._masks)}
        return tuple(told[each.id] for _, each in numbered)

    def _checked(self, series: Series) -> tuple[Finding, ...]:
        """What the checks find on one picture; not_assessed, with the reason, from one that failed."""
        found: list[Finding] = []
        for check in self._checks:
            key = ""
            try:
                if check.refuses(series) is None:
                    key = fingerprint(check, series)
                    found += self._failed_checks.load(key) or self._examined(check, series)
            except MasksUnavailable:
                raise
            except Exception as exc:  # whatever it is, the experts go on, and the reader is told
                self._failed_checks.save(key, _failed(check, exc))
                found += _failed(check, exc)
        return tuple(sorted(found, key=lambda each: -(each.probability or 0.0)))

    def _refusal(self, expert: Expert, series: Series) -> str | None:
        """Why a series is not for an expert, by itself or by a check of the picture; None when it is."""
        reason = expert.refuses(series)
        if reason is None and not getattr(expert, "checks_its_input", False):
            reason = next((said(each.concept) for each in self._checked(series) if _is_refusal(each)), None)
        return reason

    def _doubts(self, study: Study, findings: Sequence[Finding]) -> Iterator[str]:
        """A sentence for each picture that a check refused, unless a finding says so already, or doubts."""
        reasons = " ".join(each.reason for each in findings)
        for number, series in enumerate(study, 1):
            doubts = [each for each in self._checked(series) if each.presence is not Presence.NOT_ASSESSED]
            which = f"Series {number} of {len(study.series)}"
            refusal = next((said(each.concept) for each in doubts if _is_refusal(each)), None)
            if refusal is not None and refusal not in reasons:
                yield f"{which} was not read by the experts: {refusal}."
            for each in doubts if refusal is None else ():
                yield f"{which} may be unfit for the experts: {said(each.concept)}."

    def _accepted(self, expert: Expert, study: Study) -> list[Series]:
        """The series of a study that an expert is asked about; one that fails at this accepts none."""
        accepted = []
        for series in study:
            try:
                if self._refusal(expert, series) is None:
                    accepted.append(series)
            except MasksUnavailable:
                raise
            except Exception as exc:  # it was reported as a failure when the expert was asked to examine
                LOG.error("the expert %s failed: %s", expert.tag.name, type(exc).__name__)
        return accepted

    def _changes(self, study: Study, findings: Sequence[Finding], is_projection: bool) -> Compared:
        """The comparisons of one kind: of radiographs, or of CT."""
        current = of_kind(study, is_projection)
        prior = comparable_prior(study, is_projection)
        if prior is None or not current.series:
            return Compared()
        assessed = {each.expert.name for each in findings if each.presence is not Presence.NOT_ASSESSED}
        asked = [each for each in self._experts if each.tag.name in assessed and self._accepted(each, current)]
        names = {each.tag.name for each in asked}
        mine = [finding for finding in findings if finding.expert.name in names]
        compared = compare_findings(current, mine, prior, self._examine(prior, asked), self._masks)
        led = {finding.id for finding in mine if finding.led_by}  # matched, lest their priors pass for resolved
        return replace(compared, comparisons=tuple(e for e in compared.comparisons if e.finding_id not in led))

    def _unread(self, study: Study) -> Iterator[str]:
        """A sentence for each series that an expert would read, and none has for a finer one."""
        wanted: list[Series] = []
        read: list[Series] = []
        for expert in self._experts:
            accepted = self._accepted(expert, study)
            wanted += accepted
            read += worth_reading(accepted)
        for number, series in enumerate(study, 1):
            finer = max((each.volume.shape[0] for each in read if _covers(each, series)), default=0)
            if series in wanted and series not in read:
                yield (
                    f"Series {number} of {len(study.series)} ({series.volume.shape[0]} slices) was not read by the "
                    f"experts: another series shows the same place in {finer} slices."
                )

    def _ask(self, expert: Expert, study: Study) -> tuple[list[tuple[str, Finding]], list[str]]:
        """One expert's findings on all series it accepts, with the UID of each, and why it refuses the others."""
        accepted: list[Series] = []
        reasons: list[str] = []
        found: list[tuple[str, Finding]] = []
        for series in study:
            try:
                reason = self._refusal(expert, series)
            except MasksUnavailable:
                raise
            except Exception as exc:  # whatever it is, the other experts' findings must stand
                found += [("", each) for each in _failed(expert, exc)]
                continue
            if reason is None:
                accepted.append(series)
            else:
                reasons.append(reason)
        for series in worth_reading(accepted):
            try:
                found += [(series.uid, each) for each in self._examined(expert, series)]
            except MasksUnavailable:
                raise
            except ExpertStopped as exc:  # it has had its time: it is not asked about the other series
                found += [("", each) for each in _failed(expert, exc)]
                break
            except Exception as exc:  # as above
                found += [("", each) for each in _failed(expert, exc)]
        return found, reasons

    def _examined(self, expert: Expert, series: Series) -> tuple[Finding, ...]:
        key = fingerprint(expert, series)
        findings = self._kept.load(key)
        if findings is not None and self._is_whole(findings):
            return findings
        findings = tuple(expert.examine(series, self._masks))
        self._kept.save(key, findings)
        return findings

    def _is_whole(self, findings: Sequence[Finding]) -> bool:
        """Whether every mask of findings that were kept is still there."""
        keys = [region.mask_key for each in findings for region in each.regions if region.mask_key is not None]
        try:
            for key in keys:
                self._masks.load(key)
        except Exception as exc:  # missing or damaged, whatever way: it is made again
            LOG.warning("a kept examination lacks a mask and is made again: %s", type(exc).__name__)
            return False
        return True


def worth_reading(accepted: Sequence[Series]) -> list[Series]:
    """The series without coarser reconstructions of the same CT acquisition.

    That is: of the same frame of reference, and at least half covered by a series of more slices. A chest and an
    abdomen scanned in one sitting share the frame of reference, but not the place, and both are read.
    """
    kept: list[Series] = []
    for series in sorted(accepted, key=lambda each: -each.volume.shape[0]):
        if not any(_covers(finer, series) for finer in kept):
            kept.append(series)
    return [series for series in accepted if series in kept]


def _covers(finer: Series, series: Series) -> bool:
    """Whether the finer stack holds at least half of the other's length along the other's slices."""
    frame = series.volume.geometry.frame_of_reference_uid
    if series.modality.is_projection or frame is None or finer.volume.geometry.frame_of_reference_uid != frame:
        return False
    along = series.volume.geometry.affine[:3, 0] / series.volume.geometry.spacing_mm[0]
    (low, high), (finer_low, finer_high) = (_extent_mm(each, along) for each in (series, finer))
    return min(high, finer_high) - max(low, finer_low) >= (high - low) / 2


def _extent_mm(series: Series, along: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Where the series begins and ends along a unit vector (3,) of patient space, in mm."""
    corners = list(product(*((-0.5, length - 0.5) for length in series.volume.shape)))
    places = series.volume.geometry.to_patient(corners) @ along
    return float(places.min()), float(places.max())


def _cut(study: Study, findings: Sequence[Finding]) -> Iterator[str]:
    """A sentence for each CT that ends within the lungs: absent is said of what was imaged."""
    for number, series in enumerate(study, 1):
        lungs = [e for e in findings if e.concept == LUNG and any(r.series_uid == series.uid for r in e.regions)]
        if any(each.measurement(IMAGED_VOLUME) for each in lungs):
            yield (
                f"Series {number} of {len(study.series)} does not show the lungs whole: what is called absent was "
                "looked for in the part that was imaged."
            )


def _is_refusal(finding: Finding) -> bool:
    """Whether a finding of a check is a reason not to read the picture."""
    return finding.presence is Presence.PRESENT


def _failed(expert: Expert, error: Exception) -> list[Finding]:
    LOG.error("the expert %s failed: %s", expert.tag.name, type(error).__name__)
    why = f": {error}" if isinstance(error, ExpertError) else f" ({type(error).__name__})"
    return [
        Finding("f1", concept, Presence.NOT_ASSESSED, expert.tag, reason=f"the expert {expert.tag.name} failed{why}")
        for concept in expert.concepts
    ]


def _nothing_assessed(experts: Sequence[Expert], refused: Sequence[tuple[Expert, str]]) -> list[Finding]:
    """One not_assessed finding for each concept of the panel, with every reason that was given, once."""
    reasons: dict[Code, list[str]] = {}
    asked: dict[Code, ExpertTag] = {}
    for expert in experts:
        given = [reason for other, reason in refused if other is expert]
        for concept in expert.concepts:
            asked.setdefault(concept, expert.tag)
            reasons.setdefault(concept, []).extend(given)
    return [
        Finding(
            "f1",
            concept,
            Presence.NOT_ASSESSED,
            asked[concept],
            reason="; ".join(dict.fromkeys(given)) or "the study holds no picture that an expert could read",
        )
        for concept, given in reasons.items()
    ]
