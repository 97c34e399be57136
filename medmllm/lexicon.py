"""What the verifier can read in a sentence: pathologies with their polarity, sides, changes and claims of normality.

Rules after the idea of NegEx (Chapman et al., J Biomed Inform 2001;34:301-310, doi 10.1006/jbin.2001.1029): a cue
before or after a term decides it within the clause. The words of change follow the idea of Libra's temporal entities
(Zhang et al., 2024, arXiv 2411.19378); the lists are our own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from expert_models import codes
from expert_models.finding import Change, Code, Side


class Polarity(StrEnum):
    """What a sentence says of a pathology that it names."""

    PRESENT = "present"
    ABSENT = "absent"
    UNCERTAIN = "uncertain"
    NOT_ASSESSED = "not assessed"


@dataclass(frozen=True, slots=True)
class Mention:
    """A pathology named in a sentence: offsets into it, and the phrase around it, which tells its side."""

    term: str
    polarity: Polarity
    start: int
    stop: int
    phrase: str


HEART_WORDS = r"(?:heart|cardiac silhouette|cardiac shadow|cardiac contour|cardiac size|cardiac|cardiomediastinal)"

PATHOLOGIES: dict[str, str] = {
    "cardiomegaly": (
        rf"cardiomegaly|\b{HEART_WORDS}\b[^.;:]{{0,40}}?\b(?P<k1>enlarged|enlargement)|"
        r"\benlarged (?:heart|cardiac silhouette|cardiac shadow)|\benlargement of the (?:heart|cardiac silhouette)"
    ),
    "nodule": r"\b(?:micro)?nodul(?:es?|ar|arity)\b",
    "mass": r"\bmass(?:es)?\b",
    "pericardial effusion": r"\bpericardial (?:effusions?|fluid)\b",
    "pleural effusion": r"\bpleural (?:effusions?|fluid)\b|(?<!pericardial )\beffusions?\b|\bhydrothora(?:x|ces)\b",
    "pneumothorax": r"\b(?:hydro)?pneumothora(?:x|ces)\b",
    "consolidation": r"\bconsolidations?\b|\bconsolidated\b|\bconsolidative\b"
    r"|\bair[- ]?space (?:opacit(?:y|ies)|disease)\b",
    "atelectasis": r"\batelecta(?:sis|ses|tic)\b|\b(?:lobar|lung|segmental) collapse\b",
    "edema": r"\bo?edema(?:tous)?\b|\bvascular congestion\b",
    "pneumonia": r"\bpneumonias?\b|\bpneumonic\b|\bpneumonitis\b",
    "opacity": r"\bopacit(?:y|ies)\b|\bopacification\b|\binfiltrates?\b|\binfiltration\b",
    "malignancy": r"\bmalignan(?:t|cy|cies)\b|\bcancers?\b|\bcarcinomas?\b|\btumou?rs?\b|\bneoplas(?:m|ms|ia|tic)\b"
    r"|\blymphomas?\b|\bsarcomas?\b",
    "metastasis": r"\bmetasta(?:sis|ses|tic)\b",
    "lymphadenopathy": r"\b(?:lymph)?adenopathy\b|\benlarged lymph nodes?\b",
    "fracture": r"\bfractur(?:e|es|ed)\b",
    "emphysema": r"\bemphysema(?:tous)?\b|\bhyperinflat(?:ion|ed)\b|\bbullae?\b",
    "fibrosis": r"\bfibro(?:sis|tic)\b|\bhoneycombing\b",
    "tuberculosis": r"\btubercul(?:osis|ous)\b",
    "infection": r"\binfect(?:ion|ions|ious)\b|\babscess(?:es)?\b",
    "embolism": r"\bembol(?:ism|us|i)\b|\bthromb(?:us|osis)\b",
    "aneurysm": r"\baneurysm(?:s|al)?\b|\bdissection\b",
    "hernia": r"\bhernias?\b",
    "cavity": r"\bcavit(?:y|ies|ation|ary)\b",
    "calcification": r"\bcalcif(?:ication|ications|ied)\b|\bgranulomas?\b",
    "pneumoperitoneum": r"\bpneumoperitoneum\b|\bfree air\b",
    "pneumomediastinum": r"\bpneumomediastinum\b",
    "pleural thickening": r"\bpleural thickening\b",
    "bronchiectasis": r"\bbronchiect(?:asis|atic)\b",
    "heart failure": r"\b(?:heart|cardiac) failure\b",
    "haemorrhage": r"\bha?emorrhag(?:e|es|ic)\b|\bha?ematomas?\b",
    "scoliosis": r"\bscolio(?:sis|tic)\b",
    "widened mediastinum": r"\bwiden(?:ed|ing)\b[^.;:]{0,20}\bmediastin(?:um|al)\b|\bmediastin(?:um"
    r"|al)\b[^.;:]{0,20}\bwiden(?:ed|ing)\b",
}

TERM_OF: Mapping[Code, str] = {
    codes.CARDIOMEGALY: "cardiomegaly",
    codes.LUNG_NODULE: "nodule",
    codes.LUNG_MASS: "mass",
    codes.PLEURAL_EFFUSION: "pleural effusion",
    codes.PNEUMOTHORAX: "pneumothorax",
    codes.CONSOLIDATION: "consolidation",
    codes.LUNG_OPACITY: "opacity",
    codes.ATELECTASIS: "atelectasis",
    codes.PULMONARY_EDEMA: "edema",
}

COMPILED = {term: re.compile(pattern, re.IGNORECASE) for term, pattern in PATHOLOGIES.items()}

VERB = r"(?:is|are|was|were|has|have|shows?|measures?|lies?|appears?|remains?)"
CLAUSE_END = re.compile(
    r"[.;:](?=\s|$)|\s[–—]\s|,?\s(?:but|however|although|though|while|whereas|except(?: for)?|apart from|otherwise)\b"
    rf"|(?:,|\sand|,\sand)\sthe\s(?=(?:(?!and\b|or\b)[\w-]+\s){{1,4}}{VERB}\b)"
    r"|,\s(?:there|this|it|which|a|an|with)\b|\sand (?:there|a|an|it|this)\b",
    re.IGNORECASE,
)
PHRASE_END = re.compile(r",|\b(?:and|or|with|versus)\b|[.;:](?=\s|$)", re.IGNORECASE)

NOT_ASSESSED = re.compile(
    r"\b(?:not|n't|cannot be|could not be|never)\s+(?:been\s+|be\s+|yet\s+|fully\s+)*(?:assess(?:ed)?"
    r"|evaluat(?:ed?)|examined?)\b"
    r"|\bunassessed\b|\bno assessment\b|\bnot assess\b",
    re.IGNORECASE,
)
UNCERTAIN = re.compile(
    r"\bpossibl[ey]\b|\bprobabl[ey]\b|\blikely\b|\bmay\b|\bmight\b|\bcould\b|\bsuspect(?:ed)?\b"
    r"|\bsuspicious\b|\bsuspicion\b"
    r"|\bquestionable\b|\bequivocal\b|\bindeterminate\b|\buncertain\b|\bborderline\b|\bperhaps\b|\bnot certain\b"
    r"|\b(?:cannot|can not|not|difficult to|hard to) (?:be )?(?:entirely |fully "
    r"|definitely )?(?:exclude[d]?|rule[d]? out)\b"
    r"|\bsuggest(?:s|ive|ing|ed)?\b|\bconcern(?:ing)? for\b|\bunclear\b|\bdoubtful\b",
    re.IGNORECASE,
)
NEGATION_PSEUDO = re.compile(
    r"\bno (?:significant |interval |appreciable |definite |relevant |measurable )*"
    r"(?:change|increase|decrease|growth|progression|worsening|improvement)\b(?: in| of)?"
    r"|\bnot only\b|\bno (?:new|larger|further|additional)\b|\bnot (?:changed|increased|grown|larger"
    r"|smaller|significantly changed)\b"
    r"|\bno longer (?:larger|growing)\b|\bno prior\b|\bno comparison\b",
    re.IGNORECASE,
)
NEGATION_BEFORE = re.compile(
    r"\b(?:no|without|not|absence of|negative for|free of|free from|neither|nor|lack of|excludes?"
    r"|excluding|ruled out|isn't|aren't)\b",
    re.IGNORECASE,
)
NEGATION_AFTER = re.compile(
    r"\b(?:is|are|was|were|has|have)(?: been)? (?:not|no longer)\b|\bresolved\b|\bcleared\b|\bdisappeared\b|\babsent\b"
    r"|\b(?:is|are|was|were|has been|have been) (?:excluded|ruled out)\b|\bno longer\b"
    r"|\bcannot be (?:seen|identified|detected|found)\b"
    r"|\bnot (?:seen|identified|detected|visible|present|found|evident|demonstrated)\b",
    re.IGNORECASE,
)

SIDE_WORD = re.compile(
    r"\b(?P<left>left)(?:-sided|sided)?\b|\b(?P<right>right)(?:-sided|sided)?\b|\b(?P<both>bilateral(?:ly)?|both)\b",
    re.IGNORECASE,
)
LOBE_WORD = re.compile(r"\b(?P<lobe>upper|middle|lower)[- ]lobes?\b|\b(?P<lingula>lingula)\b", re.IGNORECASE)

CHANGE_WORDS: tuple[tuple[Change | None, re.Pattern[str]], ...] = tuple(
    (change, re.compile(pattern, re.IGNORECASE))
    for change, pattern in (
        (
            Change.NEW,
            r"\bnew(?:ly)?\b|\bnewly developed\b|\bhas (?:developed|appeared)\b|\bhave (?:developed|appeared)\b",
        ),
        (
            Change.LARGER,
            r"\blarger than\b|\b(?:is|are|now|become|slightly|markedly) larger\b|\blarger\b"
            r"|\bbigger\b|\bgrow(?:n|th|ing|s)?\b|\bgrew\b"
            r"|\bincreas(?:e|ed|es|ing)\b|\bwors(?:e|ened|ening|ens)\b|\bprogress(?:ed|ion|ive|ing)\b",
        ),
        (
            Change.STABLE,
            r"\bstable\b|\bunchanged\b|\bno (?:significant |interval |appreciable |relevant |measurable )*change\b"
            r"|\bnot (?:significantly )?changed\b|\bpersist(?:s|ent|ing|ed)?\b|\bsimilar to\b|\bsimilar in\b",
        ),
        (
            Change.SMALLER,
            r"\bsmaller\b|\bdecreas(?:e|ed|es|ing)\b|\bshr(?:unk|ank|inking)\b|\bimprov(?:ed|ement|ing|es)\b"
            r"|\bregress(?:ed|ion|ing)\b|\breduced\b|\bdiminished\b",
        ),
        (
            Change.RESOLVED,
            r"\bresolv(?:ed|ing|es)\b|\bresolution\b|\bcleared\b|\bclearing\b|\bdisappeared\b|\bno longer\b",
        ),
        (
            None,
            r"\bprevious(?:ly)?\b|\bprior\b|\bearlier\b|\bcompared (?:with|to)\b|\bin comparison\b"
            r"|\binterval\b|\bsince the\b"
            r"|\bagain (?:seen|noted|demonstrated)\b|\bchange[ds]?\b|\bago\b|\bformerly\b|\bin the meantime\b",
        ),
    )
)
NEGATED_CHANGE = re.compile(r"\b(?:no|not|without|neither|nor|n't|no longer)\s+(?:\w+\s+){0,2}$", re.IGNORECASE)

NORMAL_HEART = re.compile(
    rf"\b{HEART_WORDS}\b[^.;:]{{0,40}}?\bnormal\b(?! limits? of)|\bnormal (?:heart|cardiac|cardiomediastinal)\b"
    rf"|\b{HEART_WORDS}\b[^.;:]{{0,30}}?\bwithin normal limits\b",
    re.IGNORECASE,
)
NORMALITY = re.compile(
    r"\b(?:normal|unremarkable)\b|\blungs?(?: fields?)? (?:is|are) (?:well aerated and )?clear\b|\bclear lungs?\b"
    r"|\bno (?:other |acute |significant |focal |further |cardiopulmonary )*(?:abnormalit(?:y|ies)"
    r"|disease|patholog(?:y|ies)|process|findings?)\b"
    r"|\bwithin normal limits\b|\bhealthy\b",
    re.IGNORECASE,
)
AMONG_ASSESSED = re.compile(
    r"\bamong (?:those|the findings|what was) assessed\b|\bfor which it was assessed\b", re.IGNORECASE
)
GENERAL = re.compile(
    r"\bguidelines?\b|\bliterature\b|\brecommend(?:s|ed|ation|ations)?\b|\baccording to\b"
    r"|\bsuggests?\b|\btypically\b|\bin general\b"
    r"|\bshould\b|\bis associated with\b|\bare associated with\b|\bconsider(?:ed)?\b|\bfollow-?up\b"
    r"|\breported\b|\bpublished\b",
    re.IGNORECASE,
)

QUALITIES: dict[Code, re.Pattern[str]] = {  # words for the value of an attribute
    value: re.compile(pattern, re.IGNORECASE)
    for value, pattern in (
        (codes.GROUND_GLASS, r"\bground[- ]?glass\b|\bnon[- ]?solid\b|\bpure GGNs?\b"),
        (codes.PART_SOLID, r"\b(?:part|partly|partially|semi)[- ]?solid\b"),
        (codes.SOLID, r"(?<!part[- ])(?<!partly[- ])(?<!partially[- ])(?<!semi[- ])(?<!non[- ])\bsolid\b"
                      r"(?! (?:component|part|portion|core))"),
        (codes.SPICULATED, r"\bspiculat(?:ed|ions?)\b"),
        (codes.LOBULATED, r"\blobulat(?:ed|ions?)\b"),
        (codes.CALCIFIED, r"\bcalcif(?:ied|ications?)\b"),
    )
}  # fmt: skip


def term_of(concept: Code) -> str:
    """The term a concept is read as: of the lexicon where it has one, else the concept's own meaning in lower case."""
    if concept in TERM_OF:
        return TERM_OF[concept]
    return next((term for term, rule in COMPILED.items() if rule.search(concept.meaning)), concept.meaning.lower())


def patterns_for(concepts: list[Code]) -> dict[str, re.Pattern[str]]:
    """The lexicon, and the meaning of every concept that it does not know."""
    own = {term_of(each): each.meaning for each in concepts if each not in codes.ANATOMY}
    extra = {term: re.compile(rf"\b{re.escape(text)}\b", re.I) for term, text in own.items() if term not in COMPILED}
    return {**COMPILED, **extra}


def mentions(text: str, patterns: Mapping[str, re.Pattern[str]] = COMPILED) -> list[Mention]:
    """Every pathology that the text names, with what it says of it, in order."""
    found = []
    for term, pattern in patterns.items():
        for match in pattern.finditer(text):
            start = match.start("k1") if "k1" in pattern.groupindex and match.group("k1") else match.start()
            found.append(_read(text, term, match.start(), start, match.end()))
    return sorted(found, key=lambda each: each.start)


def _read(text: str, term: str, first: int, start: int, stop: int) -> Mention:
    """first: where the whole expression starts; start: where its deciding word does ("heart ... enlarged")."""
    begin, end = _around(CLAUSE_END, text, first, stop)
    clause, before, after = text[begin:end], text[begin:start], text[stop:end]
    low, high = _around(PHRASE_END, text, first, stop)
    return Mention(term, _polarity(clause, before, after), start, stop, text[low:high])


def _around(ends: re.Pattern[str], text: str, start: int, stop: int) -> tuple[int, int]:
    begin, end = 0, len(text)
    for match in ends.finditer(text):
        if match.end() <= start:
            begin = match.end()
        elif match.start() >= stop:
            end = match.start()
            break
    return begin, end


def _polarity(clause: str, before: str, after: str) -> Polarity:
    if NOT_ASSESSED.search(clause):
        return Polarity.NOT_ASSESSED
    if UNCERTAIN.search(clause):
        return Polarity.UNCERTAIN
    if NEGATION_BEFORE.search(NEGATION_PSEUDO.sub(" ", before)) or NEGATION_AFTER.search(
        NEGATION_PSEUDO.sub(" ", after)
    ):
        return Polarity.ABSENT
    return Polarity.PRESENT


def sides(text: str) -> set[Side]:
    """The sides that a text names; "both" and "bilateral" are BILATERAL."""
    named = {"left": Side.LEFT, "right": Side.RIGHT, "both": Side.BILATERAL}
    return {named[match.lastgroup or ""] for match in SIDE_WORD.finditer(text)}


def qualities(text: str) -> list[tuple[Code, re.Match[str]]]:
    """Values of attributes that the text names, each with the word that does."""
    return [(value, match) for value, pattern in QUALITIES.items() for match in pattern.finditer(text)]


def changes(text: str) -> list[tuple[Change | None, str]]:
    """Words of change with what they claim: a Change, or None where they only look back or deny a change."""
    found = []
    for change, pattern in CHANGE_WORDS:
        for match in pattern.finditer(text):
            denied = change is not Change.STABLE and change is not Change.RESOLVED
            denied = denied and bool(NEGATED_CHANGE.search(text[: match.start()]))
            found.append((None if denied else change, match.group()))
    return found
