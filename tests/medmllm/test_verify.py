"""The verifier against sentences labelled by hand: which kind of check must fail, or none."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from dicom_io.study import Geometry, Modality, Series, Study, Volume
from expert_models import codes
from expert_models.finding import Attribute, Box, Change, Comparison, Measurement, Presence, Region, Side
from medmllm.report import Check, CheckKind, Grounding, Report, Section, Sentence, Verdict
from medmllm.verify import check, verify

OK = None
SIDE, NEGATION, NUMBER = CheckKind.LATERALITY, CheckKind.NEGATION, CheckKind.NUMBER
CHANGE, UNSUPPORTED = CheckKind.CHANGE_WITHOUT_PRIOR, CheckKind.UNSUPPORTED

# The report of the table. f1 cardiomegaly present, ratio 0.61. f2 right pleural effusion present.
# f3 pneumothorax absent.
# f4 nodule, right upper lobe, present, 14.2 x 10.8 mm, slices 11 to 14. f5 nodule, left, indeterminate 48 %, 6.2 mm.
# f6 consolidation not assessed. f7 right lung 2,613 mL. f8 atelectasis absent. f9 left nodule present 9.1 mm.
# c1 f1 larger, from 0.52, by 17 %. c2 f4 new. c3 a left effusion resolved. c4 f9 stable, from 9.0 mm.
# f10 part-solid, calcified right nodule, 12.3 x 9.5 mm, solid component 6.1 mm.
# e1 is on nodules and pneumonia.
TABLE = [
    # presence and negation
    ("The heart is enlarged.", "f1", OK),
    ("There is cardiomegaly.", "f1", OK),
    ("The cardiac silhouette is not enlarged.", "f1", NEGATION),
    ("No cardiomegaly.", "f1", NEGATION),
    ("Heart size is normal.", "f1", NEGATION),
    ("Possible cardiomegaly.", "f1", OK),
    ("Cardiomegaly was not assessed.", "f1", NEGATION),
    ("No pneumothorax.", "f3", OK),
    ("There is no evidence of pneumothorax.", "f3", OK),
    ("Pneumothorax is not seen.", "f3", OK),
    ("Pneumothorax has been excluded.", "f3", OK),
    ("There is a pneumothorax.", "f3", NEGATION),
    ("A pneumothorax cannot be excluded.", "f3", NEGATION),
    ("There is no pneumothorax or atelectasis.", "f3 f8", OK),
    ("No pneumothorax, atelectasis or pleural effusion.", "f3 f8 f2", NEGATION),
    ("No pneumothorax, but there is a right pleural effusion.", "f3 f2", OK),
    ("No pneumothorax, the heart is enlarged.", "f3 f1", OK),
    ("The heart is enlarged without pneumothorax.", "f1 f3", OK),
    ("The heart is enlarged with pneumothorax.", "f1 f3", NEGATION),
    ("Neither pneumothorax nor atelectasis is identified.", "f3 f8", OK),
    ("A left lung nodule is indeterminate.", "f5", OK),
    ("Possible nodule on the left.", "f5", OK),
    ("There is a left lung nodule.", "f5", NEGATION),
    ("There is no left lung nodule.", "f5", NEGATION),
    ("Consolidation was not assessed.", "f6", OK),
    ("Consolidation could not be evaluated.", "f6", OK),
    ("No consolidation.", "f6", NEGATION),
    ("There is consolidation.", "f6", NEGATION),
    # sides and places
    ("There is a right pleural effusion.", "f2", OK),
    ("There is a right-sided pleural effusion.", "f2", OK),
    ("There is a left pleural effusion.", "f2", SIDE),
    ("There are bilateral pleural effusions.", "f2", SIDE),
    ("Both lungs show pleural effusion.", "f2", SIDE),
    ("Right pleural effusion and a left lung nodule.", "f2 f9", OK),
    ("Left pleural effusion and a right lung nodule.", "f2 f9", SIDE),
    ("No left pneumothorax.", "f3", OK),
    ("A nodule lies in the right upper lobe.", "f4", OK),
    ("A nodule lies in the left upper lobe.", "f4", SIDE),
    ("A nodule lies in the right lower lobe.", "f4", UNSUPPORTED),
    ("The left heart is enlarged.", "f1", SIDE),
    # numbers
    ("The cardiothoracic ratio is 0.61.", "f1", OK),
    ("The cardiothoracic ratio is 0.6.", "f1", OK),
    ("The cardiothoracic ratio is 0.65.", "f1", NUMBER),
    ("The cardiothoracic ratio is 0,61.", "f1", OK),
    ("A 14 × 11 mm nodule lies in the right upper lobe.", "f4", OK),
    ("A nodule of 14.2 x 10.8 mm lies in the right upper lobe.", "f4", OK),
    ("A 1.4 cm nodule lies in the right upper lobe.", "f4", OK),
    ("A 14-mm nodule lies in the right upper lobe.", "f4", OK),
    ("A 41 mm nodule lies in the right upper lobe.", "f4", NUMBER),
    ("A 14 cm nodule lies in the right upper lobe.", "f4", NUMBER),
    ("The nodule has a short axis of 11 mm.", "f4", OK),
    ("The nodule has a short axis of 14 mm.", "f4", NUMBER),
    ("The nodule is less than 6 mm.", "f4", NUMBER),
    ("The nodule is more than 8 mm long.", "f4", OK),
    ("The nodule is on slice 12.", "f4", OK),
    ("The nodule is on slice 40.", "f4", NUMBER),
    ("The right lung has a volume of 2,610 mL.", "f7", OK),
    ("The right lung has a volume of 2.6 L.", "f7", OK),
    ("The right lung has a volume of 2,160 mL.", "f7", NUMBER),
    ("The nodule is indeterminate (calibrated probability 48%).", "f5", OK),
    ("The nodule is indeterminate (calibrated probability 84%).", "f5", NUMBER),
    ("There are two nodules.", "f4 f9", OK),
    ("There are three nodules.", "f4 f9", NUMBER),
    # change
    ("The heart is larger than in the prior study.", "f1 c1", OK),
    ("The heart is larger than in the study 3 months earlier.", "f1 c1", OK),
    ("The heart is larger than in the study 3 weeks earlier.", "f1 c1", NUMBER),
    ("The cardiothoracic ratio has increased by 17%, previously 0.52.", "f1 c1", OK),
    ("The cardiothoracic ratio has increased by 71%.", "f1 c1", NUMBER),
    ("The heart is unchanged.", "f1 c1", CHANGE),
    ("The heart is smaller than before.", "f1 c1", CHANGE),
    ("The heart is larger.", "f1", CHANGE),
    ("The right pleural effusion is stable.", "f2", CHANGE),
    ("A new right pleural effusion.", "f2", CHANGE),
    ("The nodule in the right upper lobe is new.", "f4 c2", OK),
    ("The nodule in the right upper lobe has grown.", "f4 c2", CHANGE),
    ("The left pleural effusion has resolved.", "c3", OK),
    ("The left pleural effusion is no longer seen.", "c3", OK),
    ("The left pleural effusion persists.", "c3", CHANGE),
    ("The heart has not increased in size.", "f1 c1", CHANGE),  # c1 says larger
    ("The left nodule has not increased.", "f9 c4", OK),
    ("The right pleural effusion has resolved.", "f2", CHANGE),
    ("No significant change in the left nodule.", "f9 c4", OK),
    ("The left nodule is unchanged at 9.1 mm, previously 9.0 mm.", "f9 c4", OK),
    ("The left nodule shows no increase.", "f9 c4", OK),
    # support
    ("There is a rib fracture.", "f1", UNSUPPORTED),
    ("There is pneumonia.", "f1", UNSUPPORTED),
    ("There is pneumonia.", "e1", UNSUPPORTED),
    ("The nodule may be malignant.", "f4", UNSUPPORTED),
    ("There is a pneumothorax.", "f1", UNSUPPORTED),
    ("The heart is enlarged.", "", UNSUPPORTED),
    ("The lungs are clear.", "f3", UNSUPPORTED),
    ("The mediastinum is unremarkable.", "f1", UNSUPPORTED),
    ("No acute cardiopulmonary abnormality.", "f3", UNSUPPORTED),
    ("No abnormality among those assessed.", "f3", UNSUPPORTED),  # f1 is present
    ("Heart size is normal.", "f3", UNSUPPORTED),
    ("Guidelines recommend CT follow-up of a nodule of this size.", "f4 e1", OK),
    ("According to the literature pneumonia can hide a nodule.", "f4 e1", OK),
    ("According to the literature tuberculosis can hide a nodule.", "f4 e1", UNSUPPORTED),
    ("The literature says: “a solid nodule above 8 mm needs follow-up at 3 months”.", "f9 e1", OK),
    ("The literature says: “a solid nodule above 9 mm needs surgery”, pneumothorax.", "f9 e1", UNSUPPORTED),
    ("This report does not assess edema or fractures.", "f1", OK),
    ("This report does not assess pneumothorax.", "f1", UNSUPPORTED),
    ("Thule dule.", "f1", UNSUPPORTED),  # nothing of it can be checked
    ("Something is seen here.", "f3 f8", UNSUPPORTED),
    ("The picture is remarkable.", "c1", UNSUPPORTED),
    ("Thule dule since the prior.", "f1 c1", UNSUPPORTED),  # looks back and says nothing
    ("Thule dule.", "f1 e1", UNSUPPORTED),
    ("Thule dule.", "e1", UNSUPPORTED),
    ("The right lung is outlined.", "f7", OK),
    # attributes
    ("There is a part-solid nodule in the right lung.", "f10", OK),
    ("There is a partially solid, calcified nodule in the right lung.", "f10", OK),
    ("The nodule in the right lung contains calcifications.", "f10", OK),
    ("The part-solid nodule has a solid component of 6 mm.", "f10", OK),
    ("The part-solid nodule has a solid component of 4 mm.", "f10", NUMBER),
    ("There is a solid nodule in the right lung.", "f10", UNSUPPORTED),
    ("There is a non-solid nodule in the right lung.", "f10", UNSUPPORTED),
    ("There is a ground-glass nodule in the right lung.", "f10", UNSUPPORTED),
    ("There is a spiculated nodule in the right lung.", "f10", UNSUPPORTED),
    ("The nodule in the right lung has no calcification.", "f10", UNSUPPORTED),
    ("There is a solid nodule in the right upper lobe.", "f4", UNSUPPORTED),  # nothing is said of its attenuation
    ("The nodule in the right upper lobe is calcified.", "f4", UNSUPPORTED),
    ("Guidelines recommend follow-up at 3 months of a solid nodule above 8 mm.", "f9 e1", OK),
]  # fmt: skip


@pytest.fixture(scope="module")
def table_report(make):
    study = make.film(priors=(make.film("1.2.9", when=datetime(2024, 1, 1)),))
    region = make.region(make.ct(), (10, 5, 6), (14, 20, 22))
    volume = (Measurement(codes.VOLUME, 2613.2, codes.MILLILITER),)
    not_assessed = Presence.NOT_ASSESSED
    findings = (
        make.finding("f1", codes.CARDIOMEGALY, measurements=(make.ratio(0.609),)),
        make.finding("f2", codes.PLEURAL_EFFUSION, side=Side.RIGHT),
        make.finding("f3", codes.PNEUMOTHORAX, Presence.ABSENT),
        make.finding(
            "f4", codes.LUNG_NODULE, side=Side.RIGHT, site=codes.UPPER_LOBE, measurements=make.axes(14.2, 10.8),
            regions=(region,),
        ),
        make.finding("f5", codes.LUNG_NODULE, Presence.INDETERMINATE, 0.48, side=Side.LEFT,
                     measurements=make.axes(6.2, 5)),
        make.finding("f6", codes.CONSOLIDATION, not_assessed, reason="The right lung is cut off."),
        make.finding("f7", codes.LUNG, side=Side.RIGHT, measurements=volume),
        make.finding("f8", codes.ATELECTASIS, Presence.ABSENT),
        make.finding("f9", codes.LUNG_NODULE, side=Side.LEFT, measurements=make.axes(9.1, 7)),
        make.finding(
            "f10", codes.LUNG_NODULE, side=Side.RIGHT,
            measurements=(*make.axes(12.3, 9.5), Measurement(codes.SOLID_LONG_AXIS, 6.1, codes.MILLIMETER)),
            attributes=(Attribute(codes.ATTENUATION_TYPE, codes.PART_SOLID, 0.8),
                        Attribute(codes.CALCIFICATION, codes.CALCIFIED, 0.9)),
        ),
    )  # fmt: skip
    comparisons = (
        Comparison("c1", Change.LARGER, "1.2.9", "t1", "f1",
                   make.finding("f1", codes.CARDIOMEGALY, measurements=(make.ratio(0.52),)), 0.171),
        Comparison("c2", Change.NEW, "1.2.9", "t2", "f4"),
        Comparison("c3", Change.RESOLVED, "1.2.9", "t3", None,
                   make.finding("f2", codes.PLEURAL_EFFUSION, side=Side.LEFT)),
        Comparison("c4", Change.STABLE, "1.2.9", "t4", "f9",
                   make.finding("f3", codes.LUNG_NODULE, side=Side.LEFT, measurements=make.axes(9.0, 7)), 0.011),
    )  # fmt: skip
    text = "A solid nodule above 8 mm needs follow-up at 3 months. Pneumonia can hide a nodule."
    evidence = (make.evidence("e1", ("f4",), text),)
    return study, Report(study.uid, (), findings, comparisons, evidence, "mllm:test")


def checked(table_report, text: str, ids: str, section: Section = Section.FINDINGS) -> Sentence:
    study, report = table_report
    of = {kind: tuple(each for each in ids.split() if each.startswith(kind)) for kind in "fce"}
    grounding = Grounding(of["f"], of["c"], of["e"])
    (sentence,) = verify(replace(report, sentences=(Sentence(text, section, grounding),)), study).sentences
    return sentence


@pytest.mark.parametrize(("text", "ids", "expected"), TABLE, ids=[f"{text} [{ids}]" for text, ids, _ in TABLE])
def test_sentence_by_sentence(table_report, text, ids, expected) -> None:
    sentence = checked(table_report, text, ids)
    failed = {check.kind: check.reason for check in sentence.checks if check.verdict is Verdict.FAILED}
    if expected is OK:
        assert failed == {}
    else:
        assert expected in failed
        assert failed[expected]


def test_the_table_holds_both_verdicts_for_every_kind() -> None:
    assert len(TABLE) >= 60
    assert {kind for _, _, kind in TABLE} == {OK, SIDE, NEGATION, NUMBER, CHANGE, UNSUPPORTED}


def test_every_sentence_gets_one_verdict_of_each_kind_and_keeps_the_others(table_report) -> None:
    study, report = table_report
    control = Check(CheckKind.IMAGE_CONTROL, Verdict.PASSED)
    old = Check(CheckKind.NUMBER, Verdict.FAILED, "from an earlier run")
    sentence = Sentence("No pneumothorax.", Section.FINDINGS, Grounding(("f3",)), (old, control))
    (again,) = verify(replace(report, sentences=(sentence,)), study).sentences
    assert [check.kind for check in again.checks] == [
        SIDE,
        NEGATION,
        NUMBER,
        CHANGE,
        UNSUPPORTED,
        CheckKind.IMAGE_CONTROL,
    ]
    assert again.is_grounded


def test_a_cited_reason_is_not_read_as_a_statement(table_report) -> None:
    text = "Consolidation was not assessed by the expert chest-anatomy 1.0: the right lung is cut off."
    assert checked(table_report, text, "f6").is_grounded


def test_restated_facts_of_the_study_are_not_findings(table_report) -> None:
    study, report = table_report
    text = "As requested: new left pneumothorax of 20 mm?"
    sentence = Sentence(text, Section.INDICATION, Grounding(attributes=("ReasonForTheRequestedProcedure",)))
    (restated,) = verify(replace(report, sentences=(sentence,)), study).sentences
    assert restated.is_grounded
    moved = replace(sentence, section=Section.IMPRESSION)
    (smuggled,) = verify(replace(report, sentences=(moved,)), study).sentences
    assert not smuggled.is_grounded


# What a model sees on a picture of 1000 x 1000, without a prior study, and the box that it names (x0, y0, x1, y1).
# The table's report says: f1 cardiomegaly present, f2 right effusion present, f3 pneumothorax absent, f6 consolidation
# not assessed, f8 atelectasis absent, c1 the heart larger.
RIGHT, LEFT, WHOLE = (100, 300, 400, 600), (600, 300, 900, 600), (100, 100, 900, 900)
SEEN = [
    ("There is consolidation in the right lung.", RIGHT, OK),  # no expert has an answer
    ("There is consolidation in the left lung.", RIGHT, SIDE),  # the patient's left is on the right of the picture
    ("There is consolidation in both lungs.", WHOLE, OK),
    ("There is consolidation in both lungs.", LEFT, SIDE),
    ("There is pulmonary edema.", WHOLE, OK),
    ("There is a pneumothorax.", RIGHT, NEGATION),
    ("No pneumothorax is identified.", WHOLE, OK),
    ("No pleural effusion is identified.", WHOLE, NEGATION),
    ("There is a right pleural effusion.", RIGHT, OK),
    ("There is consolidation of 12 mm in the right lung.", RIGHT, NUMBER),
    ("The consolidation in the right lung is larger than before.", RIGHT, CHANGE),
    ("The chest is normal.", WHOLE, UNSUPPORTED),
    ("There is consolidation in the right upper lobe.", RIGHT, UNSUPPORTED),
    ("There is a shadow like a boat.", RIGHT, UNSUPPORTED),  # names nothing that is known
    # f2 speaks of the right side alone; where both are named, or none and the place is there, it counts as well
    ("No pleural effusion on either side.", WHOLE, NEGATION),
    ("No left pleural effusion.", LEFT, OK),
    ("There is atelectasis.", LEFT, NEGATION),
]

# Beside experts who see fluid on the left, none on the right, and no opacity on either side.
BY_SIDE = [
    ("There is a left pleural effusion.", LEFT, OK),
    ("There is a right pleural effusion.", RIGHT, NEGATION),
    ("There are bilateral pleural effusions.", WHOLE, NEGATION),
    ("There is right and left pleural effusion.", WHOLE, NEGATION),
    ("There is pleural effusion.", RIGHT, NEGATION),  # no side is said: the place counts
    ("There is pleural effusion.", LEFT, OK),
    ("There is consolidation in the left lung.", LEFT, NEGATION),  # every consolidation is an opacity
    ("There is pneumonia in the left lung.", LEFT, NEGATION),
    ("There is no consolidation in the left lung.", LEFT, OK),
]


@pytest.fixture(scope="module")
def by_side(make):
    study = make.film()
    findings = (
        make.finding("f1", codes.PLEURAL_EFFUSION, side=Side.LEFT),
        make.finding("f2", codes.PLEURAL_EFFUSION, Presence.ABSENT, side=Side.RIGHT),
        make.finding("f3", codes.LUNG_OPACITY, Presence.ABSENT, side=Side.LEFT),
        make.finding("f4", codes.LUNG_OPACITY, Presence.ABSENT, side=Side.RIGHT),
    )
    return Report(study.uid, (), findings, (), (), "mllm:test")


@pytest.mark.parametrize(("text", "box", "expected"), BY_SIDE, ids=[f"{text} {box}" for text, box, _ in BY_SIDE])
def test_what_rests_on_a_place_is_held_against_experts_side_by_side(by_side, text, box, expected) -> None:
    checks = check(seen(text, box), by_side, film_of(by_side)).checks
    failed = [each.kind for each in checks if each.verdict is Verdict.FAILED]
    assert failed == ([] if expected is OK else [expected])


def test_a_change_that_is_seen_is_held_against_comparisons_of_its_side(make) -> None:
    study = make.film()
    effusions = [
        make.finding(f"f{n}", codes.PLEURAL_EFFUSION, side=side) for n, side in ((1, Side.LEFT), (2, Side.RIGHT))
    ]
    heart = make.finding("f3", codes.HEART)
    comparisons = (
        Comparison("c1", Change.LARGER, "1.2.9", "t1", "f1", effusions[0]),
        Comparison("c2", Change.SMALLER, "1.2.9", "t2", "f2", effusions[1]),
        Comparison("c3", Change.STABLE, "1.2.9", "t3", "f3", heart),
    )
    report = Report(study.uid, (), (*effusions, heart), comparisons, (), "mllm:test")
    shown = replace(film_of(report), priors=(replace(film_of(report), uid="1.2.9"),))
    for text, box, is_right in (
        ("The left pleural effusion is larger.", LEFT, True),
        ("The left pleural effusion is smaller.", LEFT, False),
        ("The left pleural effusion has not increased.", LEFT, False),
        ("The right pleural effusion has not increased.", RIGHT, True),
        ("The heart is larger than before.", WHOLE, False),
        ("The heart is unchanged.", WHOLE, True),
    ):
        verdicts = {each.kind: each.verdict for each in check(seen(text, box), report, shown).checks}
        assert (verdicts[CHANGE] is Verdict.PASSED) is is_right, text


@pytest.mark.parametrize(("text", "box", "expected"), SEEN, ids=[f"{text} {box}" for text, box, _ in SEEN])
def test_what_rests_on_a_place_alone(table_report, text, box, expected) -> None:
    sentence = check(seen(text, box), table_report[1], film_of(table_report[1]))
    failed = [each.kind for each in sentence.checks if each.verdict is Verdict.FAILED]
    assert failed == ([] if expected is OK else [expected])


def test_a_change_that_is_seen_needs_a_prior_and_must_not_be_against_a_comparison(table_report) -> None:
    study = film_of(table_report[1])
    with_prior = replace(study, priors=(replace(study, uid="before"),))
    for text, is_right in (
        ("The consolidation in the right lung is larger than before.", True),
        ("Cardiomegaly is larger than before.", True),
        ("Cardiomegaly is smaller than before.", False),  # c1 says larger
        ("The heart is smaller than before.", False),
        ("The heart is larger than before.", True),
    ):
        checks = check(seen(text, RIGHT), table_report[1], with_prior).checks
        verdicts = {each.kind: each.verdict for each in checks}
        assert (verdicts[CHANGE] is Verdict.PASSED) is is_right, text


def seen(text: str, box: tuple[int, int, int, int]) -> Sentence:
    x0, y0, x1, y1 = box
    region = Region("film", Box((0, y0, x0), (1, y1, x1)), "film.1")
    return Sentence(text, Section.FINDINGS, Grounding(regions=(region,)))


def film_of(report: Report) -> Study:
    volume = Volume(np.zeros((1, 1000, 1000), np.float32), Geometry(np.eye(4), is_calibrated=False))
    series = Series("film", Modality.DX, volume, ("film.1",), view="PA", body_part="CHEST")
    return Study(report.study_uid, "someone", None, (series,))
