"""Answers as models give them."""

from __future__ import annotations

import pytest

from expert_models.finding import Box, Region
from medmllm.errors import Ungrounded
from medmllm.parse import Call, parse, parse_reply
from medmllm.report import Grounding, Section
from medmllm.views import Frame

IDS = ("f1", "f2", "f10", "c1", "e1")
FRAMES = (Frame("1.2.8.1", "1.2.8.1.1", 0, (300, 200)), Frame("1.2.9.1", "1.2.9.1.4", 3, (999, 999), is_prior=True))


def test_the_form_itself() -> None:
    answer = parse("findings | The heart is enlarged. | f1\nimpression | Cardiomegaly, larger. | f1 c1, e1", IDS)
    first, second = answer.sentences
    assert (first.text, first.section, first.grounding) == (
        "The heart is enlarged.", Section.FINDINGS, Grounding(finding_ids=("f1",)),
    )  # fmt: skip
    assert second.section is Section.IMPRESSION
    assert second.grounding == Grounding(("f1",), ("c1",), ("e1",))
    assert answer.problems == ()


@pytest.mark.parametrize(
    "line",
    [
        "FINDINGS | The heart is enlarged | f1",
        "- findings | The heart is enlarged. | [f1]",
        "1. **Findings** | The heart is enlarged. | (f1)",
        "| findings | The heart is enlarged. | f1 |",
        "Findings: | The heart is enlarged. | ids: f1",
        "findings|The heart is enlarged.|F1",
        "findings | The heart is enlarged [f1].",
        "findings | The heart is enlarged (f1) | f1",
        "findings | The heart is **enlarged** . | f1;",
        "```text\nfindings | The heart is enlarged. | f1\n```",
        "<think>findings | There is nothing. | f2</think>\nfindings | The heart is enlarged. | f1",
        "I should think.\nfindings | no | f2</think>findings | The heart is enlarged. | f1",
        "Here is the report:\n\nSECTION | sentence | ids\n---|---|---\nfindings | The heart is enlarged. | f1\nDone.",
        "findings | <ref>The heart</ref> is enlarged. | f1",
    ],
)
def test_forgiven_forms(line: str) -> None:
    (sentence,) = parse(line, IDS).sentences
    assert sentence.text == "The heart is enlarged."
    assert sentence.section is Section.FINDINGS
    assert sentence.grounding.finding_ids == ("f1",)


def test_unknown_ids_are_dropped_and_reported() -> None:
    answer = parse("findings | The heart is enlarged. | f1 f99 c7", IDS)
    assert answer.sentences[0].grounding == Grounding(("f1",))
    assert answer.problems == ("“The heart is enlarged.” cites f99, c7, which does not exist",)


def test_sections_that_are_not_the_models_are_ignored() -> None:
    answer = parse("technique | PA radiograph. | f1\nfindings | The heart is enlarged. | f1", IDS)
    assert [each.section for each in answer.sentences] == [Section.FINDINGS]


def test_a_sentence_without_ids_is_kept_as_ungrounded() -> None:
    answer = parse("findings | The heart is enlarged. | f1\nfindings | The lungs are clear.", IDS)
    assert not answer.sentences[1].grounding


@pytest.mark.parametrize(
    "text",
    [
        "findings | <ref>right lung</ref><box>[[100,100,450,500]]</box> shows an effusion. | f2",
        "findings | <ref>right lung</ref><box>[100,100,450,500]</box> shows an effusion. | f2",
        "findings | right lung[[100, 100, 450, 500]] shows an effusion. | f2",
        "findings | <ref>right lung</ref> <box> [[ 100, 100 , 450,500 ]] </box> shows an effusion. | f2",
    ],
)
def test_boxes_become_regions_also_with_vanished_tags(text: str) -> None:
    (sentence,) = parse(text, IDS, FRAMES).sentences
    assert sentence.text == "right lung shows an effusion."
    (region,) = sentence.grounding.regions
    assert (region.series_uid, region.instance_uid) == ("1.2.8.1", "1.2.8.1.1")
    assert region.box == Box((0, 30, 20), (1, 150, 90))


def test_several_boxes_and_another_picture() -> None:
    text = "findings | On picture 2 <ref>f1</ref><box>[[0,0,10,10],[20,20,40,40]]</box> the heart is large. |"
    (sentence,) = parse(text, IDS, FRAMES).sentences
    assert [each.box for each in sentence.grounding.regions] == [
        Box((3, 0, 0), (4, 10, 10)),
        Box((3, 20, 20), (4, 40, 40)),
    ]
    assert sentence.grounding.finding_ids == ("f1",)
    assert sentence.text == "On picture 2 the heart is large."


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no line"),
        ("The heart is enlarged.", "no line"),
        ("<think>findings | x | f1", "no line"),
        ('{"findings": ["The heart is enlarged."]}', "no line"),
        ("findings | | f1", "no line"),
        ("findings | The heart is enlarged. | f77", "cites a finding"),
    ],
)
def test_what_cannot_be_read_says_why(answer: str, reason: str) -> None:
    with pytest.raises(Ungrounded, match=reason):
        parse(answer, IDS)


def test_an_answer_that_runs_on_is_cut() -> None:
    answer = parse("findings | The heart is enlarged. | f1\n" * 5000, IDS)
    assert len(answer.sentences) == 1


GIVEN = (Region("1.2.8.1", Box((0, 0, 0), (1, 9, 9)), "1.2.8.1.1"), Region("1.2.9.1", Box((3, 1, 1), (4, 5, 5)), "a"))


def test_a_dash_for_ids_rests_on_the_region_alone() -> None:
    (sentence,) = parse("findings | The <ref>heart</ref><box>[[0,0,999,999]]</box> is large. | -", (), FRAMES).sentences
    assert sentence.text == "The heart is large."
    assert sentence.grounding == Grounding(regions=(Region("1.2.8.1", Box((0, 0, 0), (1, 300, 200)), "1.2.8.1.1"),))
    assert sentence.is_grounded
    with pytest.raises(Ungrounded, match="cites a finding"):
        parse("findings | The heart is large. | -", IDS, FRAMES)


@pytest.mark.parametrize("tag", ["<region 2>", "<Region 2>", "< region 02 >", "<region2>"])
def test_a_given_region_is_named_by_its_number(tag: str) -> None:
    (sentence,) = parse(f"findings | There is a nodule in {tag}. | f1", IDS, FRAMES, GIVEN).sentences
    assert sentence.text == "There is a nodule in region 2."
    assert sentence.grounding == Grounding(("f1",), regions=GIVEN[1:])


def test_a_region_that_was_not_given_is_dropped_and_reported() -> None:
    answer = parse("findings | A nodule in <region 3> and <region 0>. | f1", IDS, FRAMES, GIVEN)
    assert answer.sentences[0].grounding == Grounding(("f1",))
    assert answer.problems == ("“A nodule in region 3 and region 0.” cites region 3, region 0, which does not exist",)


def test_segments_know_their_sentence() -> None:
    answer = parse(
        "findings | The heart <SEG> is large. | f1\nfindings | <SEG> | f2\nfindings | Clear. | f2\n"
        "findings | Both lungs <SEG><seg>. | f2\nfindings | The heart <SEG> is large. | f1",
        IDS,
    )
    assert [each.text for each in answer.sentences] == ["The heart is large.", "Clear.", "Both lungs."]
    assert answer.segments == (0, None, 2, 2, 0)


EXPERTS = {"CXR": [""], "VISTA3D": ["lung", "hepatic tumor"]}


@pytest.mark.parametrize(
    ("answer", "calls"),
    [
        ("<CXR()>", [("CXR", "")]),
        ("Let me trigger <VISTA3D(hepatic tumor)>.", [("VISTA3D", "hepatic tumor")]),
        ("<think>which one?</think>\n<vista3d( 'Lung' )> and\n< CXR ()><CXR()>", [("VISTA3D", "lung"), ("CXR", "")]),
    ],
)
def test_expert_calls(answer: str, calls: list[tuple[str, str]]) -> None:
    reply = parse_reply(answer, EXPERTS)
    assert reply.calls == tuple(Call(*each) for each in calls)
    assert reply.problems == ()


def test_calls_that_cannot_be_made_are_dropped_and_reported() -> None:
    reply = parse_reply("<BRATS()> <VISTA3D(liver)> <CXR()>", EXPERTS)
    assert reply.calls == (Call("CXR", ""),)
    assert reply.problems == ("there is no expert BRATS", "the expert VISTA3D does not take “liver”")
    with pytest.raises(Ungrounded, match="there is no expert BRATS"):
        parse_reply("<BRATS()>", EXPERTS)


def test_an_answer_with_places() -> None:
    text = "In the <ref>right lung</ref><box>[[100,100,450,500]]</box> <SEG>, beside <region 2>"
    reply = parse_reply(text, EXPERTS, FRAMES, GIVEN)
    assert reply.text == "In the right lung, beside region 2"
    assert reply.regions == (Region("1.2.8.1", Box((0, 30, 20), (1, 150, 90)), "1.2.8.1.1"), GIVEN[1])
    assert (reply.segments, reply.calls, reply.problems) == (1, (), ())
    assert parse_reply("<region 5> yes", regions=GIVEN).problems == ("region 5 does not exist",)


@pytest.mark.parametrize(("answer", "text"), [("yes", "yes"), ("```\n2 nodules.\n```", "2 nodules."), ("<SEG>", "")])
def test_an_answer_in_words(answer: str, text: str) -> None:
    assert parse_reply(answer).text == text


def test_an_answer_of_nothing_is_none() -> None:
    with pytest.raises(Ungrounded, match="there is no answer"):
        parse_reply("<think>hm</think>")
