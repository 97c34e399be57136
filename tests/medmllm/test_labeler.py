"""The labeler against sentences written and labelled by hand for this test, none of them from a report."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expert_models import codes
from expert_models.finding import Change, Comparison, Presence, Side
from medmllm.labeler import CONCEPTS, Statement, changed_words, compares, labels, statements
from medmllm.lexicon import Polarity
from medmllm.template import TemplateWriter
from medmllm.write import WRITTEN

NAMES = {
    "effusion": codes.PLEURAL_EFFUSION,
    "pneumothorax": codes.PNEUMOTHORAX,
    "consolidation": codes.CONSOLIDATION,
    "opacity": codes.LUNG_OPACITY,
    "atelectasis": codes.ATELECTASIS,
    "edema": codes.PULMONARY_EDEMA,
    "nodule": codes.LUNG_NODULE,
    "mass": codes.LUNG_MASS,
    "cardiomegaly": codes.CARDIOMEGALY,
    "emphysema": codes.EMPHYSEMA,
    "heart": codes.HEART,
}
POLARITIES = {"+": Polarity.PRESENT, "-": Polarity.ABSENT, "?": Polarity.UNCERTAIN, "x": Polarity.NOT_ASSESSED}

# Each: a text, and its statements as "+concept side change"; + present, - absent, ? uncertain, x not assessed.
TABLE = [
    # present, absent, uncertain
    ("There is a small pleural effusion.", "+effusion"),
    ("No pneumothorax.", "-pneumothorax"),
    ("The left lung and cardiomegaly were not assessed.", "xcardiomegaly"),
    ("There is no evidence of pleural effusion or pneumothorax.", "-effusion, -pneumothorax"),
    ("No focal consolidation, large effusion, or pneumothorax.", "-consolidation, -effusion, -pneumothorax"),
    ("Neither a mass nor a nodule is identified.", "-mass, -nodule"),
    ("The lungs are free of consolidation.", "-consolidation"),
    ("Both bases are clear of opacity, effusion, or atelectasis.", "-opacity both, -effusion, -atelectasis"),
    ("Question a small effusion at the left base.", "?effusion left"),
    ("A tiny pneumothorax is hard to fully exclude.", "?pneumothorax"),
    ("The differential includes edema.", "?edema"),
    ("A nodular opacity projects over the left base.", "+opacity left"),
    ("A pneumothorax cannot be excluded.", "?pneumothorax"),
    ("We cannot exclude a small pneumothorax at the apex.", "?pneumothorax"),
    ("A tiny effusion is not excluded.", "?effusion"),
    ("Pneumothorax has been ruled out.", "-pneumothorax"),
    ("Possible atelectasis at the base.", "?atelectasis"),
    ("The appearance may represent early edema.", "?edema"),
    ("There is an opacity that may represent atelectasis.", "+opacity, ?atelectasis"),
    ("Retrocardiac opacity, likely atelectasis.", "+opacity, ?atelectasis"),
    ("Findings suggest mild edema without effusion.", "?edema, -effusion"),
    ("No findings to suggest edema.", "-edema"),
    ("No suspicious nodule is seen.", "-nodule"),
    ("A nodule is suspected behind the clavicle.", "?nodule"),
    ("Pneumothorax is unlikely.", "?pneumothorax"),
    ("There is probably no effusion.", "?effusion"),
    ("A follow-up is advised to exclude a mass.", "?mass"),
    ("Atelectasis versus consolidation at the base.", "?atelectasis, ?consolidation"),
    ("Pneumothorax?", "?pneumothorax"),
    ("Consolidation is not seen.", "-consolidation"),
    ("An effusion is present, pneumothorax is not seen.", "+effusion, -pneumothorax"),
    ("The heart is enlarged, but there is no edema.", "+cardiomegaly, -edema"),
    ("No pneumothorax, although a small effusion is present.", "-pneumothorax, +effusion"),
    ("Effusion could not be assessed.", "xeffusion"),
    ("Atelectasis with no effusion.", "+atelectasis, -effusion"),
    ("Cardiomegaly with possible edema.", "+cardiomegaly, ?edema"),
    ("No edema with a stable small effusion.", "-edema, +effusion stable"),
    ("Basilar opacities consistent with atelectasis.", "+opacity, +atelectasis"),
    # double negation
    ("The film is not without a nodule.", "+nodule"),
    ("The effusion has not resolved.", "+effusion"),
    ("A pneumothorax is not present, and an effusion is not excluded.", "-pneumothorax, ?effusion"),
    # the heart
    ("The heart is mildly enlarged.", "+cardiomegaly"),
    ("Enlarged cardiac silhouette.", "+cardiomegaly"),
    ("The cardiac silhouette is not enlarged.", "-cardiomegaly"),
    ("Heart size is normal.", "-cardiomegaly"),
    ("The heart size is at the upper limits of normal.", "?cardiomegaly"),
    ("Borderline cardiomegaly.", "?cardiomegaly"),
    ("Upper limits of normal heart size.", "?cardiomegaly"),
    ("The heart is top normal in size.", "?cardiomegaly"),
    ("The heart is enlarged and the mediastinum is normal.", "+cardiomegaly"),
    ("The heart is larger than before.", "+heart larger"),
    ("Cardiomegaly is unchanged.", "+cardiomegaly stable"),
    # other words for the same, and the same words for something else
    ("Patchy infiltrate in the left base.", "+opacity left"),
    ("Airspace disease in the right lower lobe.", "+consolidation right"),
    ("Collapse of the left lower lobe.", "+atelectasis left"),
    ("Vertebral collapse.", ""),
    ("Subcutaneous emphysema in the neck.", ""),
    ("Bullous emphysema at both apices.", "+emphysema both"),
    ("There is mass effect on the trachea.", ""),
    ("No pleural or pericardial effusion.", "-effusion"),
    ("There is a pericardial effusion.", ""),
    ("Hydropneumothorax on the right.", "+effusion right, +pneumothorax right"),
    ("The lungs are clear.", ""),
    ("Hyperinflated lungs.", ""),
    # sides
    ("There is a left pleural effusion.", "+effusion left"),
    ("Bilateral pleural effusions.", "+effusion both"),
    ("Bibasilar atelectasis.", "+atelectasis both"),
    ("Pleural effusions, left greater than right.", "+effusion both"),
    ("Left greater than right pleural effusions.", "+effusion both"),
    ("Small right and moderate left pleural effusions.", "+effusion both"),
    ("Effusions on the left and on the right.", "+effusion both"),
    ("Right pleural effusion and left pneumothorax.", "+effusion right, +pneumothorax left"),
    ("A nodule in the right upper lobe, an effusion on the left.", "+nodule right, +effusion left"),
    ("Opacity in the RLL.", "+opacity right"),
    ("Linear atelectasis in the lingula.", "+atelectasis left"),
    ("Middle lobe consolidation.", "+consolidation right"),
    ("In the left lung, nodules are scattered.", "+nodule left"),
    ("Opacities in the right upper and left lower lobes.", "+opacity both"),
    ("The bilateral lung and cardiomegaly were not assessed.", "xcardiomegaly"),
    ("The upper lobe of left lung and cardiomegaly were not assessed.", "xcardiomegaly"),
    ("No effusion on either side.", "-effusion both"),
    ("No right pneumothorax.", "-pneumothorax right"),
    ("Right effusion without left pneumothorax.", "+effusion right, -pneumothorax left"),
    ("No left effusion, but a small right effusion is seen.", "-effusion left, +effusion right"),
    # change
    ("New left effusion.", "+effusion left new"),
    ("The right effusion has increased.", "+effusion right larger"),
    ("The effusion has decreased in size.", "+effusion smaller"),
    ("Interval increase in the left effusion.", "+effusion left larger"),
    ("Worsening edema.", "+edema larger"),
    ("Persistent atelectasis at the left base.", "+atelectasis left stable"),
    ("No change in the right nodule.", "+nodule right stable"),
    ("The nodule shows no significant change.", "+nodule stable"),
    ("Effusion and atelectasis are unchanged.", "+effusion stable, +atelectasis stable"),
    ("The pneumothorax has resolved.", "-pneumothorax resolved"),
    ("Resolution of the left pneumothorax.", "-pneumothorax left resolved"),
    ("Resolved consolidation.", "-consolidation resolved"),
    ("The effusion has partially resolved.", "+effusion smaller"),
    ("Resolving consolidation on the right.", "+consolidation right smaller"),
    ("The pneumothorax is no longer seen.", "-pneumothorax resolved"),
    ("The heart is no longer enlarged.", "-cardiomegaly resolved"),
    ("Stable cardiomegaly with a new right effusion.", "+cardiomegaly stable, +effusion right new"),
    ("The effusion is unchanged and the pneumothorax has resolved.", "+effusion stable, -pneumothorax resolved"),
    ("An effusion is unchanged and pneumothorax has resolved.", "+effusion stable, -pneumothorax resolved"),
    ("No new consolidation.", "-consolidation"),
    ("The nodule has not grown.", "+nodule"),
    ("High-resolution images show a nodule.", "+nodule"),
    # what is not stated
    ("HISTORY: Rule out pneumothorax. FINDINGS: Small effusion.", "+effusion"),
    ("Indication: possible mass.\nFindings: No mass.\nImpression: No mass.", "-mass, -mass"),
    ("COMPARISON: Film with left effusion. IMPRESSION: Cardiomegaly.", "+cardiomegaly"),
    ("History of emphysema.", ""),
    ("Status post drainage of an effusion.", ""),
    ("Evaluate for pneumothorax.", ""),
    # several sentences, numbers and lists
    ("1. Left effusion. 2. No pneumothorax.", "+effusion left, -pneumothorax"),
    ("A nodule of 1.4 cm in the left lung.", "+nodule left"),
    ("Nodule, mass and consolidation are absent.", "-nodule, -mass, -consolidation"),
    ("No nodule; mass in the right upper lobe.", "-nodule, +mass right"),
]  # fmt: skip


def written(code: str) -> list[Statement]:
    made = []
    for each in code.split(", ") if code else []:
        name, *rest = each[1:].split()
        sides = [Side.BILATERAL if word == "both" else Side(word) for word in rest if word in ("left", "right", "both")]
        changed = [Change(word) for word in rest if word not in ("left", "right", "both")]
        made.append(Statement(NAMES[name], POLARITIES[each[0]], *(sides or [None]), *(changed or [None])))
    return made


@pytest.mark.parametrize(("text", "expected"), TABLE, ids=[text for text, _ in TABLE])
def test_sentence_by_sentence(text: str, expected: str) -> None:
    assert statements(text) == written(expected)


def test_the_table_is_large_and_holds_every_answer() -> None:
    assert len({text for text, _ in TABLE}) == len(TABLE) >= 60
    said = [each for _, expected in TABLE for each in written(expected)]
    assert {each.polarity for each in said} == set(Polarity)
    assert {each.side for each in said} == {*Side, None}
    assert {each.change for each in said} == {*Change, None}
    assert {each.concept for each in said} == {*CONCEPTS, codes.HEART}


@given(st.lists(st.sampled_from([text for text, _ in TABLE if ":" not in text]), max_size=8), st.randoms())
def test_the_order_of_sentences_changes_nothing(texts: list[str], random) -> None:
    shuffled = list(texts)
    random.shuffle(shuffled)
    assert labels(" ".join(shuffled)) == labels(" ".join(texts))
    told = [statements(" ".join(each)) for each in (texts, shuffled)]
    assert sorted(map(str, told[0])) == sorted(map(str, told[1]))


def test_the_strongest_of_several_statements_is_the_label() -> None:
    text = "No left effusion. Small right effusion. Possible nodule. No new nodule. No mass. Mass was not assessed."
    assert labels(text) == {
        codes.PLEURAL_EFFUSION: Polarity.PRESENT,
        codes.LUNG_NODULE: Polarity.UNCERTAIN,
        codes.LUNG_MASS: Polarity.ABSENT,
    }


def test_words_of_change_and_of_comparison() -> None:
    text = (
        "The left effusion is larger than before. No increase in the nodule. COMPARISON: a new film. FINDINGS: Stable."
    )
    assert changed_words(text) == {"larger", "stable"}
    assert compares("The effusion is unchanged.")
    assert compares("As on the prior film, there is an effusion.")
    assert not compares("No prior study is available for comparison. There is an effusion.")
    assert not compares("There is an effusion with degenerative changes of the spine.")


def test_the_template_is_read_back(make) -> None:
    """Every concept, presence, side and change that the template writer can word."""
    study = make.film(priors=(make.film("1.2.9"),))
    sided = [
        (codes.LUNG_NODULE, Presence.PRESENT, Side.RIGHT),
        (codes.LUNG_MASS, Presence.PRESENT, Side.LEFT),
        (codes.PLEURAL_EFFUSION, Presence.PRESENT, Side.BILATERAL),
        (codes.CONSOLIDATION, Presence.INDETERMINATE, Side.LEFT),
        (codes.ATELECTASIS, Presence.ABSENT, Side.RIGHT),
        (codes.PNEUMOTHORAX, Presence.ABSENT, None),
        (codes.PULMONARY_EDEMA, Presence.NOT_ASSESSED, None),
        (codes.CARDIOMEGALY, Presence.PRESENT, None),
    ]
    findings = [make.finding(f"f{n}", code, presence, side=side) for n, (code, presence, side) in enumerate(sided, 1)]
    then = replace(findings[0], id="f1")
    changes = {"f1": Change.LARGER, "f2": Change.NEW, "f3": Change.STABLE, "f8": Change.SMALLER}
    made = [
        Comparison(f"c{n}", change, "1.2.9", f"t{n}", id_, None if change is Change.NEW else then)
        for n, (id_, change) in enumerate(changes.items(), 1)
    ]
    gone = make.finding("f1", codes.PNEUMOTHORAX, side=Side.LEFT)
    made.append(Comparison("c9", Change.RESOLVED, "1.2.9", "t9", None, gone))
    report = TemplateWriter().write(study, findings, made, ())
    said = statements(" ".join(each.text for each in report.sentences if each.section in WRITTEN))
    agrees = {
        Presence.PRESENT: Polarity.PRESENT,
        Presence.ABSENT: Polarity.ABSENT,
        Presence.INDETERMINATE: Polarity.UNCERTAIN,
        Presence.NOT_ASSESSED: Polarity.NOT_ASSESSED,
    }
    for finding in findings:
        own = [each for each in said if each.concept == finding.concept]
        assert {each.polarity for each in own} >= {agrees[finding.presence]}
        assert {each.side for each in own if each.polarity is Polarity.PRESENT} <= {finding.side}
    told = {(each.concept, each.change) for each in said if each.change is not None}
    assert told == {
        (codes.LUNG_NODULE, Change.LARGER),
        (codes.LUNG_MASS, Change.NEW),
        (codes.PLEURAL_EFFUSION, Change.STABLE),
        (codes.HEART, Change.SMALLER),
        (codes.PNEUMOTHORAX, Change.RESOLVED),
    }
