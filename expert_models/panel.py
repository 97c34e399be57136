"""The panel: every expert on every series it reads, and what changed since the prior. One that fails stops no other."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from threading import Lock

import numpy as np
import numpy.typing as npt

from dicom_io.study import Series, Study
from expert_models.compare import comparable_prior, compare_findings, of_kind
from expert_models.errors import ExpertError, MasksUnavailable
from expert_models.finding import Code, Comparison, ExpertTag, Finding, Presence
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
        found: list[Finding] = []
        refused: list[tuple[Expert, str]] = []
        for expert in self._experts:
            findings, reasons = self._ask(expert, study)
            found += findings
            refused += [(expert, reason) for reason in reasons]
        if not found:
            found = _nothing_assessed(self._experts, refused)
        return tuple(replace(finding, id=f"f{number}") for number, finding in enumerate(found, 1))

    def compare(self, study: Study, findings: Sequence[Finding]) -> tuple[Comparison, ...]:
        """What changed since the newest prior that can be compared; empty without one.

        Radiographs are compared with radiographs and CT with CT, and a finding only with one of the same expert.
        """
        comparisons: list[Comparison] = []
        for is_projection in (True, False):
            current = of_kind(study, is_projection)
            prior = comparable_prior(study, is_projection)
            if prior is None or not current.series:
                continue
            names = {finding.expert.name for finding in self.examine(current)}
            mine = [finding for finding in findings if finding.expert.name in names]
            comparisons += compare_findings(current, mine, prior, self.examine(prior))
        return tuple(replace(each, id=f"c{number}") for number, each in enumerate(comparisons, 1))

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
