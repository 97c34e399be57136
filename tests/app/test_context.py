"""What a study is given beyond its images: its order, signed reports on its priors, and what those follow."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from app.context import ArchiveInContext
from app.orders import Order
from app.versions import Version
from dicom_io.study import Request, Study, Tracked
from expert_models.codes import CARDIOMEGALY
from expert_models.finding import Change, Comparison, ExpertTag, Finding, Presence
from medmllm.report import Report, Section, Sentence, Signature

PRIOR = Study("1.1", "k", datetime(2025, 1, 1), (), Request("old cough", "", "A0"))
STUDY = Study("1.2", "k", datetime(2026, 1, 1), (), Request("cough", "chest", "A1"), priors=(PRIOR,))
DRAFT = Report(
    "1.1",
    (Sentence("No effusion.", Section.FINDINGS), Sentence("Normal chest.", Section.IMPRESSION)),
    (), (), (), "template",
)  # fmt: skip
SIGNED = replace(DRAFT, is_draft=False, signature=Signature("Dr. A", "Hospital", datetime(2025, 1, 2, tzinfo=UTC)))


@dataclass
class Folder:
    study: Study = STUDY

    def load(self, study_uid: str) -> Study:
        return self.study


@dataclass
class Book:
    kept: dict[str, Order] = field(default_factory=dict)

    def put(self, order: Order) -> None:
        self.kept[order.accession] = order

    def get(self, accession: str) -> Order:
        return self.kept[accession]


@dataclass
class Shelf:
    kept: tuple[Report, ...] = ()

    def history(self, study_uid: str) -> tuple[Version, ...]:
        mine = [each for each in self.kept if each.study_uid == study_uid]
        return tuple(Version(at, each, datetime(2025, 1, 2, tzinfo=UTC)) for at, each in enumerate(mine, start=1))


def loaded(order: Order | None = None, *reports: Report, study: Study = STUDY) -> Study:
    book = Book()
    if order is not None:
        book.put(order)
    return ArchiveInContext(Folder(study), book, Shelf(reports)).load("1.2")


def test_a_study_nobody_knows_more_about_stays_as_it_is() -> None:
    assert loaded().request == STUDY.request
    assert loaded().priors[0].report is None


def test_an_order_counts_more_than_the_header_where_it_speaks() -> None:
    assert loaded(Order("A1", indication="fever")).request == Request("fever", "chest", "A1")


def test_an_order_of_another_accession_is_not_taken() -> None:
    assert loaded(Order("A9", indication="fever")).request == STUDY.request


def test_the_priors_order_is_its_own() -> None:
    assert loaded(Order("A0", indication="fall")).priors[0].request.indication == "fall"


def test_a_signed_report_goes_with_its_prior_and_a_draft_does_not() -> None:
    assert loaded(None, DRAFT, SIGNED).priors[0].report == "No effusion. Normal chest."
    assert loaded(None, DRAFT).priors[0].report is None
    assert loaded(None, SIGNED, DRAFT).priors[0].report == "No effusion. Normal chest.", "it stands until another is"


def test_a_report_that_came_with_the_prior_stays() -> None:
    came = replace(STUDY, priors=(replace(PRIOR, report="As dictated."),))
    assert loaded(None, SIGNED, study=came).priors[0].report == "As dictated."


def test_the_newest_report_on_a_prior_says_what_it_follows_before_any_other() -> None:
    heart = Finding("f1", CARDIOMEGALY, Presence.PRESENT, ExpertTag("fake", "1"))
    followed = replace(DRAFT, findings=(heart,), comparisons=(Comparison("c1", Change.NEW, "1.0", "2.25.7", "f1"),))
    theirs = Tracked("3.4", ("a", "B"))
    came = replace(STUDY, priors=(replace(PRIOR, tracked=(theirs,)),))
    code = (CARDIOMEGALY.value, CARDIOMEGALY.scheme)
    assert loaded(None, SIGNED, followed, study=came).priors[0].tracked == (Tracked("2.25.7", code), theirs)
    assert loaded(None, study=came).priors[0].tracked == (theirs,)
