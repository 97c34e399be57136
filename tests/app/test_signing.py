"""Editing and signing: what becomes of sentences and their checks, who may, and what is kept, noted and announced."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.accounts import Account, Scope
from app.bootstrap import Program, open_program
from app.errors import BadSetting, NotAllowed, Outdated
from app.settings import Settings
from app.signing import edited, save_edit, sign, signed
from dicom_io.identity import study_key
from expert_models.codes import LUNG_NODULE
from expert_models.finding import ExpertTag, Finding, Presence, Side
from medmllm.report import CheckKind, Grounding, Report, Section, Sentence, Verdict
from medmllm.verify import verify

NODULE = Finding("f1", LUNG_NODULE, Presence.PRESENT, ExpertTag("e", "1"), 0.9, Side.LEFT)
DRAFT = verify(
    Report(
        "1.2.3",
        (
            Sentence("One radiograph.", Section.TECHNIQUE, Grounding(attributes=("Modality",))),
            Sentence("There is a nodule on the left.", Section.FINDINGS, Grounding(("f1",))),
            Sentence("Nodule on the left.", Section.IMPRESSION, Grounding(("f1",))),
        ),
        (NODULE,),
        (),
        (),
        "template",
    )
)
READER = Account("jdoe", "Dr. Jane Doe", frozenset({Scope.READ, Scope.SIGN}))
CLERK = Account("clerk", "A Clerk", frozenset({Scope.READ, Scope.WRITE}))
NOW = datetime(2024, 3, 5, 13, 30, tzinfo=UTC)


def failed(sentence: Sentence) -> set[CheckKind]:
    return {each.kind for each in sentence.checks if each.verdict is Verdict.FAILED}


def test_a_reworded_sentence_keeps_its_grounding_and_is_checked_again() -> None:
    report = edited(DRAFT, {1: "There is a nodule  on the right.", 2: "Nodule on the left."})
    technique, reworded, untouched = report.sentences
    assert (reworded.text, reworded.is_edited) == ("There is a nodule on the right.", True)
    assert reworded.grounding == Grounding(("f1",))
    assert failed(reworded) == {CheckKind.LATERALITY}  # the finding it rests on is on the left
    assert (technique, untouched) == (DRAFT.sentences[0], DRAFT.sentences[2])


def test_sentences_are_taken_out_and_added_in_their_section() -> None:
    report = edited(DRAFT, {0: None}, [(Section.FINDINGS, "A healed rib fracture."), (Section.COMPARISON, "None.")])
    assert [(each.section.value, each.text, each.is_edited) for each in report.sentences] == [
        ("comparison", "None.", True),
        ("findings", "There is a nodule on the left.", False),
        ("findings", "A healed rib fracture.", True),
        ("impression", "Nodule on the left.", False),
    ]
    assert not report.sentences[2].grounding
    assert report.findings == DRAFT.findings


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({7: "x"}, "no sentence at position 7; the report has 3"),
        ({1: "  "}, "needs text"),
        ({1: "x" * 2001}, "at most 2000"),
        ({0: None, 1: None, 2: None}, "at least one sentence"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(texts: dict[int, str | None], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        edited(DRAFT, texts)


def test_a_signature_ends_the_draft_and_an_edit_begins_it_again() -> None:
    report = signed(DRAFT, READER, "Sample Hospital", NOW)
    assert not report.is_draft
    assert report.signature is not None
    assert (report.signature.name, report.signature.organization) == ("Dr. Jane Doe", "Sample Hospital")
    assert report.sentences == DRAFT.sentences
    with pytest.raises(Outdated, match="signed already"):
        signed(report, READER, "Sample Hospital", NOW)
    assert edited(report, {2: "A nodule."}).is_draft


def test_nobody_signs_without_the_scope_or_the_organization() -> None:
    with pytest.raises(NotAllowed):
        signed(DRAFT, CLERK, "Sample Hospital", NOW)
    with pytest.raises(NotAllowed):
        signed(DRAFT, Account("gone", "Gone", frozenset({Scope.SIGN}), is_disabled=True), "Sample Hospital", NOW)
    with pytest.raises(BadSetting, match="set `organization`"):
        signed(DRAFT, READER, " ", NOW)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    settings = Settings(
        home=tmp_path,
        organization="Sample Hospital",
        results_to="dicomweb+http://127.0.0.1:1/dicom-web",
        queue_url="huey+memory:",
        vectors_url="memory:",
        embedder_url="hashing:",
    )
    return open_program(settings)


def test_each_act_is_a_version_an_entry_and_a_delivery(program: Program) -> None:
    program.versions.save(DRAFT)
    second = save_edit(program, "1.2.3", READER, 1, {1: "A nodule.", 2: None}, [(Section.IMPRESSION, "A nodule.")])
    third = sign(program, "1.2.3", READER, 2)
    assert [(each.number, each.author, each.report.is_draft) for each in program.versions.history("1.2.3")] == [
        (1, "", True),
        (2, "jdoe", True),
        (3, "jdoe", False),
    ]
    assert program.versions.newest("1.2.3").report == third.report
    assert third.report.sentences == second.report.sentences
    newest, oldest = program.audit.entries()
    key = study_key("1.2.3", program.secret)
    assert [(each.actor, each.action, each.study_key) for each in (oldest, newest)] == [
        ("jdoe", "edit", key),
        ("jdoe", "sign", key),
    ]
    assert dict(oldest.detail) == {"version": 2, "edited": 1, "removed": 1, "added": 1}
    assert [each.version for each in program.deliveries.of_study("1.2.3")] == [1, 2, 3]  # noted as each was kept


def test_nobodys_work_is_overwritten(program: Program) -> None:
    program.versions.save(DRAFT)
    save_edit(program, "1.2.3", READER, 1, {1: "A nodule."})
    with pytest.raises(Outdated, match="somebody else"):
        save_edit(program, "1.2.3", READER, 1, {1: "None."})
    with pytest.raises(Outdated, match="somebody else"):
        sign(program, "1.2.3", READER, 1)
    assert len(program.versions.history("1.2.3")) == 2


def test_an_edit_that_changes_nothing_is_no_version_and_keeps_the_signature(program: Program) -> None:
    program.versions.save(DRAFT)
    version = sign(program, "1.2.3", READER, 1)
    assert save_edit(program, "1.2.3", READER, 2, {1: DRAFT.sentences[1].text}) == version
    assert len(program.versions.history("1.2.3")) == 2
    with pytest.raises(NotAllowed):
        save_edit(program, "1.2.3", CLERK, 2, {1: "None."})
    with pytest.raises(KeyError):
        sign(program, "9.9.9", READER, 1)
