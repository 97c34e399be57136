"""What the program knows of a study beyond its images: the order that asked for it, and the reports on its priors.

Of those reports it takes the words that were signed, and the identity of what they found: Tracking UIDs.
"""

from __future__ import annotations

from dataclasses import replace

from app.ports import Archive, Histories, Orders
from dicom_io.study import Study
from expert_models.tracking import tracked_by
from medmllm.report import Section


class ArchiveInContext:
    """Implements app.ports.Archive over another one."""

    def __init__(self, archive: Archive, orders: Orders, reports: Histories) -> None:
        self._archive = archive
        self._orders = orders
        self._reports = reports

    def load(self, study_uid: str) -> Study:
        """The study with its order's indication and procedure, its priors with the reports signed here."""
        study = self._archive.load(study_uid)
        return replace(
            self._ordered(study),
            priors=tuple(self._tracked(self._reported(self._ordered(prior))) for prior in study.priors),
        )

    def _ordered(self, study: Study) -> Study:
        """An order says more, and later, than the header of the images: where it speaks, it counts."""
        if not study.request.accession:
            return study
        try:
            order = self._orders.get(study.request.accession)
        except KeyError:
            return study
        request = replace(
            study.request,
            indication=order.indication or study.request.indication,
            procedure=order.procedure or study.request.procedure,
        )
        return replace(study, request=request)

    def _reported(self, prior: Study) -> Study:
        """A report that came with the prior stays; else the last that was signed here. A draft is no report."""
        if prior.report is not None:
            return prior
        signed = [each.report for each in self._reports.history(prior.uid) if not each.report.is_draft]
        if not signed:
            return prior
        said = [each.text for part in (Section.FINDINGS, Section.IMPRESSION) for each in signed[-1].section(part)]
        return replace(prior, report=" ".join(said))

    def _tracked(self, prior: Study) -> Study:
        """With what the newest version of our report on it follows; a draft too, for drafts go to the PACS as well.

        Before what other reports follow: our own findings are told apart by the very place that we wrote down.
        """
        history = self._reports.history(prior.uid)
        if not history:
            return prior
        report = history[-1].report
        return replace(prior, tracked=(*tracked_by(prior.uid, report.findings, report.comparisons), *prior.tracked))
