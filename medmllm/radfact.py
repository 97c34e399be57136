"""RadFact: a report held against the true one sentence by sentence, in both directions, with the boxes of each.

After MAIRA-2 (Bannur et al., 2024, arXiv:2406.04449). A sentence is logically entailed when the other report states all
that it states; the other's sentences that do are its evidence. It is spatially entailed when more than half of the area
of its boxes lies inside the boxes of its evidence. Of one report's sentences, then,

logical: entailed among all; grounding: spatially entailed among the entailed ones with boxes; spatial: logically and
spatially entailed among all with boxes.

Of the sentences that were written these are precisions, of the true ones recalls. Each is a mean over the reports where
it is defined; F1 is that of the two means, and 0 where nothing is entailed.

Ours: in the paper a language model judges what is entailed; here it is what medmllm.labeler reads, that is concept,
polarity, side and change. What is present on both sides is present on the left; what is absent on no named side is
absent on both. A sentence that states nothing that the labeler knows is entailed by the same words alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from expert_models.evaluate import Metric, bootstrapped
from expert_models.finding import Side
from medmllm.labeler import Statement, statements
from medmllm.lexicon import Polarity
from medmllm.views import GRID, Corners

KINDS = ("logical", "grounding", "spatial")
INSIDE = 0.5  # of the area of a sentence's boxes, more than which lies in those of its evidence
BOX = re.compile(r"\[(\d{1,3}),(\d{1,3}),(\d{1,3}),(\d{1,3})\]")
TAGGED = re.compile(r"<box>.*?</box>|<[^<>]*>")
LEFT_AND_RIGHT = frozenset({Side.LEFT, Side.RIGHT})


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence of a report: its words without tags, what it states, and the boxes that it rests on."""

    text: str
    states: tuple[Statement, ...]
    boxes: tuple[Corners, ...]


def read_report(report: str) -> tuple[Said, ...]:
    """The sentences of "section | sentence | ids" lines; a line of another form is a sentence as it stands.

    More forgiving than medmllm.parse, which drops what is ungrounded: what a model said counts, however it said it.
    """
    read = []
    for line in report.splitlines():
        words = line.split("|")[1] if "|" in line else line
        text = " ".join(TAGGED.sub("", words).split())
        if text:
            read.append(Said(text, tuple(statements(text)), tuple(boxes_of(words))))
    return tuple(read)


def plain(report: str) -> str:
    """The words of a report alone."""
    return " ".join(each.text for each in read_report(report))


def boxes_of(text: str) -> list[Corners]:
    """Every box (x1, y1, x2, y2) of a text, 0..999."""
    return [(int(a), int(b), int(c), int(d)) for a, b, c, d in BOX.findall(text)]


def area_of(boxes: Sequence[Corners]) -> npt.NDArray[np.bool_]:
    """What boxes cover of the grid, (1000, 1000)."""
    area = np.zeros((GRID, GRID), bool)
    for x1, y1, x2, y2 in boxes:
        area[y1 : y2 + 1, x1 : x2 + 1] = True
    return area


def radfact(pairs: Sequence[tuple[str, str]], patients: Sequence[str]) -> list[Metric]:
    """`radfact/logical_f1`, `/grounding_f1` and `/spatial_f1` of reports as written, each with the true one."""
    if not pairs:
        return []
    read = [(read_report(ours), read_report(true)) for ours, true in pairs]
    shares = np.array([[one_way(ours, true), one_way(true, ours)] for ours, true in read])  # (reports, 2, KINDS)
    return [
        bootstrapped(f"radfact/{kind}_f1", partial(_f1, shares[:, :, at]), patients) for at, kind in enumerate(KINDS)
    ]


def one_way(said: Sequence[Said], other: Sequence[Said]) -> tuple[float, float, float]:
    """The shares of one report's sentences, in the order of KINDS; nan where there is no sentence to be a share of."""
    entailed = boxed = entailed_boxed = placed = 0
    for sentence in said:
        evidence = evidence_for(sentence, other)
        entailed += bool(evidence)
        boxed += bool(sentence.boxes)
        entailed_boxed += bool(evidence and sentence.boxes)
        placed += bool(evidence and sentence.boxes and _is_inside(sentence, evidence))
    return _share(entailed, len(said)), _share(placed, entailed_boxed), _share(placed, boxed)


def evidence_for(sentence: Said, other: Sequence[Said]) -> list[Said]:
    """The other report's sentences that together state all that this one states; none when they do not."""
    if not sentence.states:
        return [each for each in other if not each.states and each.text.casefold() == sentence.text.casefold()]
    found: list[Said] = []
    for claim in sentence.states:
        alike = [(each, stated) for each in other for stated in each.states if _supports(stated, claim)]
        covered = {side for _, stated in alike for side in _sides(stated)}
        if not alike or not _sides(claim) <= covered:
            return []
        found += [each for each, _ in alike]
    return list(dict.fromkeys(found))


def _supports(stated: Statement, claim: Statement) -> bool:
    """Whether it says the same thing, of at least one of the claimed sides."""
    is_same = stated.concept == claim.concept and stated.polarity is claim.polarity
    is_there = not _sides(claim) or bool(_sides(claim) & _sides(stated))
    return is_same and is_there and claim.change in (None, stated.change)


def _sides(said: Statement) -> frozenset[Side]:
    if said.side is None:
        return LEFT_AND_RIGHT if said.polarity is Polarity.ABSENT else frozenset()
    return LEFT_AND_RIGHT if said.side is Side.BILATERAL else frozenset({said.side})


def _is_inside(sentence: Said, evidence: Sequence[Said]) -> bool:
    own, theirs = area_of(sentence.boxes), area_of([box for each in evidence for box in each.boxes])
    return bool(own.any() and (own & theirs).sum() > INSIDE * own.sum())


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _f1(shares: npt.NDArray[np.float64], index: npt.NDArray[np.int64]) -> float:
    """shares: (reports, 2), precision and recall of each."""
    chosen = shares[index]
    known = ~np.isnan(chosen)
    if not known.any(axis=0).all():
        return 0.0
    precision, recall = np.where(known, chosen, 0).sum(axis=0) / known.sum(axis=0)
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0
