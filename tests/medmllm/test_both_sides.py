from __future__ import annotations

from dataclasses import replace

from dicom_io.study import Study
from expert_models import codes
from expert_models.finding import Code, ExpertTag, Finding, Measurement, Presence, Side
from medmllm import wording
from medmllm.impression import impression
from medmllm.statements import absent_names, finding_statements

TAG = ExpertTag("fake", "1")
STUDY = Study("1.2", "patient", None, ())


def absent(concept: Code, side: Side | None, number: int, tag: ExpertTag = TAG) -> Finding:
    return Finding(f"f{number}", concept, Presence.ABSENT, tag, 0.01, side)


def said(*findings: Finding) -> list[str]:
    return [sentence.text for sentence in finding_statements(findings, STUDY)]


def test_what_is_absent_on_both_sides_is_one_sentence_on_both() -> None:
    both = [absent(codes.PLEURAL_EFFUSION, side, number) for number, side in enumerate((Side.RIGHT, Side.LEFT), 1)]
    (sentence,) = finding_statements(both, STUDY)
    assert sentence.text == "No pleural effusion is identified on either side."
    assert sentence.grounding.finding_ids == ("f1", "f2")
    assert absent_names(both) == ["pleural effusion"]


def test_one_side_alone_is_named() -> None:
    right = absent(codes.PLEURAL_EFFUSION, Side.RIGHT, 1)
    assert said(right) == ["No right pleural effusion is identified."]
    other = absent(codes.PLEURAL_EFFUSION, Side.LEFT, 2, ExpertTag("other", "1"))
    assert len(said(right, other)) == 2  # two experts, each of whom looked at one side
    assert absent_names([right, absent(codes.CONSOLIDATION, Side.LEFT, 3)]) == [
        "right pleural effusion",
        "consolidation in the left lung",
    ]


def test_measurements_of_the_aorta_read_as_text() -> None:
    measured = Measurement(codes.ASCENDING_AORTA, 34.2, codes.MILLIMETER)
    index = Measurement(codes.EMPHYSEMA_INDEX, 7.4, codes.PERCENT)
    assert wording.measured([measured, index]) == "ascending aortic diameter 34 mm, low attenuation area (LAA-950) 7%"


def test_what_is_in_both_lungs_is_concluded_once() -> None:
    sides = enumerate((Side.RIGHT, Side.LEFT), 1)
    both = [Finding(f"f{number}", codes.LUNG_OPACITY, Presence.PRESENT, TAG, 0.8, side) for number, side in sides]
    sentence = impression(STUDY, both, (), ())[0]
    assert (sentence.text, sentence.grounding.finding_ids) == ("Opacity in both lungs.", ("f1", "f2"))
    lobes = [replace(each, site=site) for each, site in zip(both, (codes.UPPER_LOBE, codes.LOWER_LOBE), strict=True)]
    assert "upper lobes" not in impression(STUDY, lobes, (), ())[0].text  # each lobe keeps its side
    doubted = [replace(each, presence=Presence.INDETERMINATE) for each in both]
    assert impression(STUDY, doubted, (), ())[0].text == "Indeterminate: possible opacity in both lungs."
