"""The panel: every expert on every series it reads, and what changed since the prior. One that fails stops no other."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from threading import Lock

import numpy as np
import numpy.typing as npt

from dicom_io.study import Series, Study
from expert_models.compare import comparable_prior, compare_findings, of_kind
from expert_models.errors import ComparisonFailed, ExpertError, ExpertStopped, MasksUnavailable
from expert_models.finding import Code, Comparison, ExpertTag, Finding, Presence, Side
from expert_models.ports import Expert, Masks

LOG = logging.getLogger(__name__)
REMEMBERED = 64  # examinations kept in memory, so that a prior that was a study a moment ago is not examined twice


class Panel:
    """Several experts behind the one port that the pipeline calls."""

    def __init__(self, experts: Sequence[Expert], masks: Masks) -> None:
        self._experts = tuple(experts)
        self._masks = masks
        self._remembered: OrderedDict[str, tuple[Finding, ...]] = OrderedDict()
        self._lock = Lock()

    def examine(self, study: Study) -> tuple[Finding, ...]:
        """Every expert's findings on the study, ids f1, f2 ... Never raises for a failing expert.

        Of several reconstructions of one place in one CT, each expert reads the one with the most slices. A study that
        every expert refuses becomes not_assessed with the reasons: silence would read as normal.
        """
        return self._examine(study, self._experts)

    def compare(self, study: Study, findings: Sequence[Finding]) -> tuple[Comparison, ...]:
        """What changed since the newest prior that can be compared; empty without one.

        Radiographs are compared with radiographs and CT with CT, and a finding only with one of the same expert. An
        expert that could not assess the study is not asked about its prior. Raises ComparisonFailed with what could be
        compared none the less; MasksUnavailable.
        """
        comparisons: list[Comparison] = []
        failed: list[str] = []
        for is_projection in (True, False):
            try:
                comparisons += self._changes(study, findings, is_projection)
            except MasksUnavailable:
                raise
            except Exception as exc:  # whatever it is, the findings must stand
                LOG.error("a comparison with the prior failed: %s", type(exc).__name__)
                failed.append(f"{'radiographs' if is_projection else 'CT'} ({type(exc).__name__})")
        made = tuple(replace(each, id=f"c{number}") for number, each in enumerate(comparisons, 1))
        if failed:
            raise ComparisonFailed(f"comparing with the prior failed for {' and '.join(failed)}", made)
        return made

    def remarks(self, study: Study, findings: Sequence[Finding]) -> tuple[str, ...]:
        """What the reader must know of the examination besides its findings, in sentences.

        That is: reconstructions that were left unread for a finer one, and experts that contradict one another.
        """
        said = list(self._unread(study))
        for series in study:
            readers = {each.tag.name for each in self._experts if _accepted(each, replace(study, series=(series,)))}
            said += contradictions([each for each in findings if each.expert.name in readers])
        return tuple(dict.fromkeys(said))

    def _examine(self, study: Study, experts: Sequence[Expert]) -> tuple[Finding, ...]:
        found: list[Finding] = []
        refused: list[tuple[Expert, str]] = []
        for expert in experts:
            findings, reasons = self._ask(expert, study)
            found += findings
            refused += [(expert, reason) for reason in reasons]
        if not found:
            found = _nothing_assessed(experts, refused)
        return tuple(replace(finding, id=f"f{number}") for number, finding in enumerate(found, 1))

    def _changes(self, study: Study, findings: Sequence[Finding], is_projection: bool) -> list[Comparison]:
        """The comparisons of one kind: of radiographs, or of CT."""
        current = of_kind(study, is_projection)
        prior = comparable_prior(study, is_projection)
        if prior is None or not current.series:
            return []
        assessed = {each.expert.name for each in findings if each.presence is not Presence.NOT_ASSESSED}
        asked = [each for each in self._experts if each.tag.name in assessed and _accepted(each, current)]
        names = {each.tag.name for each in asked}
        mine = [finding for finding in findings if finding.expert.name in names]
        return compare_findings(current, mine, prior, self._examine(prior, asked))

    def _unread(self, study: Study) -> Iterator[str]:
        """A sentence for each series that an expert would read, and none has for a finer one."""
        wanted: list[Series] = []
        read: list[Series] = []
        for expert in self._experts:
            accepted = _accepted(expert, study)
            wanted += accepted
            read += worth_reading(accepted)
        for number, series in enumerate(study, 1):
            finer = max((each.volume.shape[0] for each in read if _covers(each, series)), default=0)
            if series in wanted and series not in read:
                yield (
                    f"Series {number} of {len(study.series)} ({series.volume.shape[0]} slices) was not read by the "
                    f"experts: another series shows the same place in {finer} slices."
                )

    def _ask(self, expert: Expert, study: Study) -> tuple[list[Finding], list[str]]:
        """One expert's findings on all series it accepts, and why it refuses the others."""
        accepted: list[Series] = []
        reasons: list[str] = []
        found: list[Finding] = []
        for series in study:
            try:
                reason = expert.refuses(series)
            except Exception as exc:  # whatever it is, the other experts' findings must stand
                found += _failed(expert, exc)
                continue
            if reason is None:
                accepted.append(series)
            else:
                reasons.append(reason)
        for series in worth_reading(accepted):
            try:
                found += self._examined(expert, series)
            except MasksUnavailable:
                raise
            except ExpertStopped as exc:  # it has had its time: it is not asked about the other series
                found += _failed(expert, exc)
                break
            except Exception as exc:  # as above
                found += _failed(expert, exc)
        return found, reasons

    def _examined(self, expert: Expert, series: Series) -> tuple[Finding, ...]:
        key = _fingerprint(expert.tag, series)
        with self._lock:
            if key in self._remembered:
                self._remembered.move_to_end(key)
                return self._remembered[key]
        findings = tuple(expert.examine(series, self._masks))
        with self._lock:
            self._remembered[key] = findings
            while len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        return findings


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


def contradictions(findings: Sequence[Finding]) -> Iterator[str]:
    """A sentence for each concept and side that one expert calls present and another absent. Both findings stand.

    Absent without a side means on neither.
    """
    for finding in findings:
        if finding.presence is not Presence.PRESENT:
            continue
        for other in findings:
            about_the_same = other.concept == finding.concept and other.side in (None, finding.side)
            if about_the_same and other.presence is Presence.ABSENT and other.expert.name != finding.expert.name:
                side = f" on the {finding.side.value} side" if finding.side in (Side.LEFT, Side.RIGHT) else ""
                yield (
                    f"The experts contradict one another on {finding.concept.meaning}{side}: "
                    f"{finding.expert.name} says present, {other.expert.name} says absent."
                )


def _accepted(expert: Expert, study: Study) -> list[Series]:
    """The series of a study that an expert accepts; one that fails at this accepts none."""
    accepted = []
    for series in study:
        try:
            if expert.refuses(series) is None:
                accepted.append(series)
        except Exception as exc:  # it was reported as a failure when the expert was asked to examine
            LOG.error("the expert %s failed: %s", expert.tag.name, type(exc).__name__)
    return accepted


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


def _fingerprint(tag: ExpertTag, series: Series) -> str:
    """The same for the same pixels of the same series under the same expert."""
    volume = series.volume
    digest = hashlib.sha256(np.ascontiguousarray(volume.voxels).data)
    digest.update(volume.geometry.affine.tobytes())
    for part in (tag.name, tag.version, tag.weights_sha256, series.uid, *series.source, series.view or ""):
        digest.update(f"|{part}".encode())
    return digest.hexdigest()
