"""The template's prose, against sentences written by hand; and its law: it always passes our own verifier."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_io.study import LeftOut
from expert_models import codes
from expert_models.finding import (
    Attribute,
    Change,
    Code,
    Comparison,
    ExpertTag,
    Finding,
    Measurement,
    Presence,
    Region,
    Side,
)
from medmllm.report import Section
from medmllm.template import TemplateWriter

WRITER = TemplateWriter()


def test_a_film_with_cardiomegaly_and_a_prior(film_case, texts) -> None:
    report = WRITER.write(*film_case.parts)
    assert report.writer == "template"
    assert texts(report, Section.INDICATION) == ["As requested: Shortness of breath."]
    assert texts(report, Section.TECHNIQUE) == ["PA chest radiograph (DX)."]
    assert texts(report, Section.COMPARISON) == ["Compared with the study 3 months earlier (PA chest radiograph)."]
    assert texts(report, Section.FINDINGS) == [
        "The heart is enlarged (cardiothoracic ratio 0.61).",
        "No pneumothorax is identified.",
        "Pleural effusion was not assessed by the expert chest-anatomy 1.0: the weights are missing.",
        "The heart is larger than in the study 3 months earlier: cardiothoracic ratio 0.61, previously 0.52 "
        "(an increase of 17%).",
        "This report does not assess lung nodule, lung mass, consolidation, atelectasis, pulmonary edema, the bones, "
        "the mediastinum, the upper abdomen or lines and devices.",
    ]
    assert texts(report, Section.IMPRESSION) == [
        "Cardiomegaly, cardiothoracic ratio 0.61.",
        "The heart is larger than in the study 3 months earlier.",
        "Literature on cardiomegaly: “A cardiothoracic ratio above 0.50 on a PA radiograph suggests cardiomegaly” "
        "(Smith J et al., 2017).",
        "No pneumothorax is identified.",
        "Pleural effusion was not assessed; the reasons are under findings.",
    ]


def test_what_each_sentence_cites(film_case) -> None:
    report = WRITER.write(*film_case.parts)
    by_text = {sentence.text: sentence.grounding for sentence in report.sentences}
    assert by_text["PA chest radiograph (DX)."].attributes == ("Modality", "ViewPosition", "BodyPartExamined")
    heart = by_text["The heart is enlarged (cardiothoracic ratio 0.61)."]
    assert heart.finding_ids == ("f1",)
    assert heart.regions == film_case.findings[0].regions
    assert by_text["The heart is larger than in the study 3 months earlier."].comparison_ids == ("c1",)
    (literature,) = (ids for text, ids in by_text.items() if text.startswith("Literature"))
    assert (literature.evidence_ids, literature.finding_ids) == (("e1",), ("f1",))


def test_a_ct_with_two_nodules_one_of_them_new(ct_case, texts) -> None:
    report = WRITER.write(*ct_case.parts)
    assert texts(report, Section.TECHNIQUE) == ["CT of the chest, 40 slices, 1.25 mm apart."]
    findings = texts(report, Section.FINDINGS)
    assert findings[0] == "The right lung has a volume of 2,610 mL and the left lung has a volume of 2,240 mL."
    assert findings[1] == (
        "There is a 14 × 11 mm nodule in the right upper lobe (slice 13 of 40, mean attenuation −35 HU)."
    )
    assert findings[2] == "There is a 6.2 × 4.8 mm nodule in the left lower lobe (slice 32 of 40)."
    assert findings[3] == (
        "The nodule in the right upper lobe is larger than in the study 3 weeks earlier: "
        "14 × 11 mm, previously 10 × 8 mm (an increase of 41%)."
    )
    assert findings[4] == "The nodule in the left lower lobe is new since the study 3 weeks earlier (6.2 × 4.8 mm)."
    assert texts(report, Section.IMPRESSION) == [
        "Two lung nodules, the largest 14 × 11 mm in the right upper lobe.",
        "The nodule in the left lower lobe is new since the study 3 weeks earlier.",
        "The nodule in the right upper lobe is larger than in the study 3 weeks earlier.",
    ]


def test_the_four_presences_are_worded_apart(make, texts) -> None:
    study = make.film()
    words = {}
    for presence in Presence:
        finding = make.finding("f1", codes.PLEURAL_EFFUSION, presence, 0.48, side=Side.LEFT)
        words[presence] = texts(WRITER.write(study, [finding], [], []), Section.FINDINGS)[0]
    assert words == {
        Presence.PRESENT: "There is a left pleural effusion.",
        Presence.ABSENT: "No left pleural effusion is identified.",
        Presence.INDETERMINATE: "A possible left pleural effusion is indeterminate (calibrated probability 48%).",
        Presence.NOT_ASSESSED: (
            "Left pleural effusion was not assessed by the expert chest-anatomy 1.0: the view is lateral."
        ),
    }


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("AP", "The view is AP, which magnifies the heart: the cardiothoracic ratio overstates its true size."),
        (
            None,
            "The view position is not stated: on an AP view the heart is magnified, and the cardiothoracic ratio "
            "would overstate its true size.",
        ),
        ("LL", "The cardiothoracic ratio is defined for a PA view; this view is left lateral."),
    ],
)
def test_a_ratio_off_the_pa_view_is_qualified(make, texts, view, words) -> None:
    study = make.film(view=view)
    heart = make.finding("f1", codes.CARDIOMEGALY, measurements=(make.ratio(0.55),), regions=(make.region(study),))
    report = WRITER.write(study, [heart], [], [])
    assert words in texts(report, Section.FINDINGS)


def test_a_change_of_view_between_the_studies_is_said(film_case, make, texts) -> None:
    prior = make.film("1.2.9", view="AP", when=datetime(2024, 1, 1))
    study = replace(film_case.study, priors=(prior,))
    report = WRITER.write(study, film_case.findings, film_case.comparisons, ())
    assert "The views differ (PA now, AP in the prior study): part of any change may be due to projection." in texts(
        report, Section.FINDINGS
    )


def test_everything_absent(make, texts) -> None:
    concepts = (codes.CARDIOMEGALY, codes.PLEURAL_EFFUSION, codes.PNEUMOTHORAX)
    findings = [make.finding(f"f{n}", each, Presence.ABSENT, 0.02) for n, each in enumerate(concepts, 1)]
    report = WRITER.write(make.film(), findings, [], [])
    assert texts(report, Section.IMPRESSION) == [
        "No abnormality among those assessed: no cardiomegaly, pleural effusion or pneumothorax is identified."
    ]


def test_nothing_could_be_assessed(make, texts) -> None:
    reason = "The network's weights are missing"
    findings = [
        make.finding("f1", codes.CARDIOMEGALY, Presence.NOT_ASSESSED, reason=reason),
        make.finding("f2", codes.LUNG, Presence.NOT_ASSESSED, side=Side.RIGHT, reason=reason),
    ]
    report = WRITER.write(make.film(), findings, [], [])
    assert texts(report, Section.FINDINGS)[0] == (
        "The right lung and cardiomegaly were not assessed by the expert chest-anatomy 1.0: "
        "the network's weights are missing."
    )
    assert texts(report, Section.IMPRESSION) == [
        "This report reaches no conclusion: nothing that was looked for could be assessed.",
        "The right lung and cardiomegaly were not assessed; the reasons are under findings.",
    ]


def test_without_any_finding_the_report_says_so(make, texts) -> None:
    report = WRITER.write(make.film(), [], [], [])
    assert texts(report, Section.IMPRESSION) == [
        "This report reaches no conclusion: no expert has examined this study."
    ]
    assert "does not assess cardiomegaly, lung nodule" in texts(report, Section.FINDINGS)[0]
    assert all(sentence.is_grounded for sentence in report.sentences)


def test_why_there_is_no_comparison(make, texts) -> None:
    def says(study):
        return texts(WRITER.write(study, [], [], []), Section.COMPARISON)

    assert says(make.film()) == ["No comparison: no prior study of this patient is available."]
    other_kind = make.film(priors=(make.ct(when=datetime(2024, 3, 30)),))
    assert says(other_kind) == [
        "No comparison: the available prior is of another kind (CT of the chest, the study 2 days earlier)."
    ]
    unmatched = make.film(priors=(make.film("1.2.9", when=None),))
    assert says(unmatched) == ["No comparison: no finding of this study could be matched with the prior study."]


def test_a_resolved_finding(make, texts) -> None:
    prior = make.film("1.2.9", when=datetime(2022, 4, 1))
    gone = make.finding("f1", codes.PLEURAL_EFFUSION, side=Side.RIGHT)
    comparison = Comparison("c1", Change.RESOLVED, "1.2.9", "t", None, gone)
    absent = make.finding("f1", codes.PLEURAL_EFFUSION, Presence.ABSENT)
    report = WRITER.write(make.film(priors=(prior,)), [absent], [comparison], [])
    assert "The right pleural effusion of the study 24 months earlier is no longer identified." in texts(
        report, Section.FINDINGS
    )
    assert all(sentence.is_grounded for sentence in report.sentences)


def test_what_was_left_out_is_in_the_technique(make, texts) -> None:
    out = (LeftOut("slice 3", "The pixel data end early."), LeftOut("slice 9", "The pixel data end early."))
    report = WRITER.write(make.film(series_left_out=out, left_out=(LeftOut("a.txt", "Not DICOM"),)), [], [], [])
    assert texts(report, Section.TECHNIQUE)[1] == (
        "Three parts of the study were left out: the pixel data end early (2); not DICOM (1)."
    )


def test_without_pixel_spacing_no_millimetres_are_promised(make, texts) -> None:
    study = make.film(is_calibrated=False)
    width = Measurement(codes.CARDIAC_DIAMETER, 812.4, codes.PIXEL)
    report = WRITER.write(study, [make.finding("f1", codes.CARDIOMEGALY, measurements=(width,))], [], [])
    assert "so no lengths are given in millimetres." in texts(report, Section.TECHNIQUE)[1]
    assert texts(report, Section.FINDINGS)[0] == (
        "The heart is enlarged (transverse cardiac diameter 812 pixels; the image states no spacing)."
    )


def test_many_nodules_share_a_sentence_beyond_the_largest_eight(make, texts) -> None:
    findings = [make.finding(f"f{n}", codes.LUNG_NODULE, measurements=make.axes(20 - n, 3)) for n in range(1, 12)]
    sentences = texts(WRITER.write(make.ct(), findings, [], []), Section.FINDINGS)
    assert sentences[8] == "There are a further three lung nodules, measuring up to 11 × 3 mm."


def test_two_radiographs_are_told_apart(make, texts) -> None:
    study = make.film()
    lateral = make.film("1.2.5", view="LL").series[0]
    study = replace(study, series=(*study.series, lateral))
    region = Region(lateral.uid, make.region(study).box, lateral.source[0])
    finding = make.finding("f1", codes.CONSOLIDATION, side=Side.LEFT, site=codes.LOWER_LOBE, regions=(region,))
    report = WRITER.write(study, [finding], [], [])
    assert texts(report, Section.FINDINGS)[0] == (
        "There is consolidation in the left lower lobe on the left lateral view."
    )


def test_no_date_name_or_uid_is_in_the_prose(film_case, make) -> None:
    study = make.film(
        "1.2.840.99999.7",
        indication="Cough since 3 March 2024. Ref by Dr Jane Doe, MRN 00123456, acc A12-77",
        accession="A12-77",
        priors=film_case.study.priors,
    )
    report = WRITER.write(study, film_case.findings, film_case.comparisons, ())
    prose = " ".join(sentence.text for sentence in report.sentences)
    for secret in ("2024", "March", "Jane", "Doe", "00123456", "A12-77", "99999"):
        assert secret not in prose


def test_notices_are_passed_on(make) -> None:
    assert WRITER.write(make.film(), [], [], [], ["No literature is cited."]).notices == ("No literature is cited.",)


CONCEPTS = (
    codes.CARDIOMEGALY, codes.LUNG_NODULE, codes.LUNG_MASS, codes.PLEURAL_EFFUSION, codes.PNEUMOTHORAX,
    codes.CONSOLIDATION, codes.ATELECTASIS, codes.PULMONARY_EDEMA, codes.LUNG, codes.HEART,
    Code("x1", "99TEST", "Widened mediastinum"), Code("x2", "99TEST", "Rib fracture"),
    Code("x3", "99TEST", "ILD pattern"),
)  # fmt: skip
SITES = (
    None,
    codes.UPPER_LOBE,
    codes.MIDDLE_LOBE,
    codes.LOWER_LOBE,
    codes.LUNG,
    codes.PLEURA,
    Code("s", "X", "Apex of lung"),
)
UNIT_OF = {
    codes.CARDIOTHORACIC_RATIO: codes.RATIO,
    codes.CARDIAC_DIAMETER: codes.MILLIMETER,
    codes.THORACIC_DIAMETER: codes.PIXEL,
    codes.VOLUME: codes.MILLILITER,
    codes.LONG_AXIS: codes.MILLIMETER,
    codes.SHORT_AXIS: codes.MILLIMETER,
    codes.MEAN_ATTENUATION: codes.HOUNSFIELD_UNIT,
    codes.SOLID_LONG_AXIS: codes.MILLIMETER,
}


@st.composite
def measurements(draw: st.DrawFn) -> tuple[Measurement, ...]:
    chosen = draw(st.lists(st.sampled_from(list(UNIT_OF)), unique=True, max_size=4))
    ranges = {
        codes.CARDIOTHORACIC_RATIO: (0.2, 0.9),
        codes.MEAN_ATTENUATION: (-900, 300),
        codes.VOLUME: (0.1, 7000),
    }
    return tuple(Measurement(code, draw(st.floats(*ranges.get(code, (0.5, 400)))), UNIT_OF[code]) for code in chosen)


VALUES_OF = {
    codes.ATTENUATION_TYPE: [codes.SOLID, codes.PART_SOLID, codes.GROUND_GLASS],
    codes.BORDER_SHAPE: [codes.SPICULATED, codes.LOBULATED],
    codes.CALCIFICATION: [codes.CALCIFIED],
}


@st.composite
def attributes(draw: st.DrawFn) -> tuple[Attribute, ...]:
    asked = draw(st.lists(st.sampled_from(list(VALUES_OF)), unique=True))
    return tuple(
        Attribute(each, draw(st.sampled_from(VALUES_OF[each])), draw(st.none() | st.floats(0, 1))) for each in asked
    )


@st.composite
def findings_of(draw: st.DrawFn, make, study, id_: str) -> Finding:
    presence = draw(st.sampled_from(Presence))
    start = draw(st.integers(0, 30))
    region = (
        make.region(study, (0, 5, 6), (1, 20, 22))
        if study.series[0].modality.is_projection
        else make.region(study, (start, 5, 6), (start + 3, 9, 9), best=start + 1)
    )
    return Finding(
        id_,
        draw(st.sampled_from(CONCEPTS)),
        presence,
        ExpertTag(draw(st.sampled_from(["cxr", "ct-nodules"])), "2.1"),
        draw(st.none() | st.floats(0, 1)),
        draw(st.none() | st.sampled_from(Side)),
        draw(st.sampled_from(SITES)),
        draw(st.sampled_from([(), (region,)])),
        draw(measurements()),
        draw(st.sampled_from(["Weights are missing.", "The left half shows 3 mm of pneumothorax, new"]))
        if presence is Presence.NOT_ASSESSED
        else "",
        attributes=() if presence in (Presence.NOT_ASSESSED, Presence.ABSENT) else draw(attributes()),
    )


@st.composite
def cases(draw: st.DrawFn, make, case_of):
    kind = draw(st.sampled_from([make.film, make.ct]))
    when = datetime(2024, 4, 1)
    prior = kind("1.3", when=draw(st.none() | st.just(when - timedelta(hours=draw(st.integers(0, 90000))))))
    options = {"view": draw(st.sampled_from(["PA", "AP", None]))} if kind == make.film else {}
    study = kind("1.2", when=when, priors=(prior,), **options)
    findings = [draw(findings_of(make, study, f"f{n}")) for n in range(1, draw(st.integers(0, 14)) + 1)]
    comparisons = []
    for number, finding in enumerate(findings, 1):
        change = draw(st.none() | st.sampled_from(Change))
        if change is None:
            continue
        before = draw(findings_of(make, prior, "f1"))
        before = replace(before, concept=finding.concept, presence=Presence.PRESENT, reason="")
        comparisons.append(
            Comparison(
                f"c{number}", change, draw(st.sampled_from(["1.3", "9.9"])), "t",
                None if change is Change.RESOLVED else finding.id,
                None if change is Change.NEW else before,
                draw(st.none() | st.floats(-0.95, 3)),
            )
        )  # fmt: skip
    evidence = [make.evidence(f"e{n}", (f"f{n}",)) for n in range(1, draw(st.integers(0, min(3, len(findings)))) + 1)]
    return case_of(study, tuple(findings), tuple(comparisons), tuple(evidence))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_every_sentence_of_the_template_is_grounded_and_passes_the_verifier(data, make, case_of) -> None:
    case = data.draw(cases(make, case_of))
    report = WRITER.write(*case.parts)
    wrong = [
        (sentence.text, [check.reason for check in sentence.checks if check.reason]) for sentence in report.sentences
    ]
    assert [each for each in wrong if each[1]] == []
    assert all(sentence.is_grounded for sentence in report.sentences)
    said = {id_ for sentence in report.section(Section.FINDINGS) for id_ in sentence.grounding.finding_ids}
    assert said == {each.id for each in case.findings}
    compared = {id_ for sentence in report.section(Section.FINDINGS) for id_ in sentence.grounding.comparison_ids}
    assert compared == {each.id for each in case.comparisons}
