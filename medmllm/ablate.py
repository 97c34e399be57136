"""A writer that goes without something, to measure what that is worth: experts, prior, regions, pictures or checks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from dicom_io.study import Series, Study
from expert_models.finding import Comparison, Finding
from medmllm.ports import Writer
from medmllm.report import Report
from medmllm.write import MllmWriter
from rag.evidence import Evidence

PARTS = ("experts", "prior", "regions", "pictures", "checks")


class Ablated:
    """Satisfies medmllm.ports.Writer with another writer, which gets less than there is.

    experts: no finding, no comparison. prior: no earlier study. regions: findings without their places. pictures: one
    grey in place of every picture. checks: a model's sentences stand whatever the checks say of them.
    """

    def __init__(self, writer: Writer, parts: Collection[str]) -> None:
        """ValueError, in one sentence, for a part that is none of PARTS, and for checks of a writer without a model."""
        if unknown := sorted(set(parts) - set(PARTS)):
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(PARTS)}")
        if "checks" in parts:
            if not isinstance(writer, MllmWriter):
                raise ValueError("there is no model whose sentences could go unchecked")
            writer = writer.unchecked()
        self._writer, self._parts = writer, frozenset(parts)

    def write(
        self,
        study: Study,
        findings: Sequence[Finding],
        comparisons: Sequence[Comparison],
        evidence: Sequence[Evidence],
        notices: Sequence[str] = (),
    ) -> Report:
        """The report of the other writer on what is left."""
        if "experts" in self._parts:
            findings = ()
        if "prior" in self._parts:
            study = replace(study, priors=())
        if {"experts", "prior"} & self._parts:
            comparisons = ()
        if "regions" in self._parts:
            findings = [replace(each, regions=()) for each in findings]
            comparisons = [replace(each, prior_finding=_placeless(each.prior_finding)) for each in comparisons]
        if "pictures" in self._parts:
            study = _grey(study)
        return self._writer.write(study, findings, comparisons, evidence, notices)


def _placeless(finding: Finding | None) -> Finding | None:
    return None if finding is None else replace(finding, regions=())


def _grey(study: Study) -> Study:
    return replace(
        study,
        series=tuple(_grey_series(each) for each in study.series),
        priors=tuple(_grey(each) for each in study.priors),
    )


def _grey_series(series: Series) -> Series:
    voxels = series.volume.voxels
    middle = np.asarray(voxels.mean(), dtype=voxels.dtype)
    return replace(series, volume=replace(series.volume, voxels=np.full_like(voxels, middle)))
