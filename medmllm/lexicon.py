"""What the verifier can read in a sentence: pathologies and devices with polarity, sides, changes, claims of normality.

Rules after the idea of NegEx (Chapman et al., J Biomed Inform 2001;34:301-310, doi 10.1006/jbin.2001.1029): a cue
before or after a term decides it within the clause, and what is doubted is not denied. The words of change follow the
idea of Libra's temporal entities (Zhang et al., 2024, arXiv 2411.19378); the lists are our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
        r"\benlarged (?:heart|cardiac silhouette|cardiac shadow|cardiomediastinal silhouette)"
        r"|\benlargement of the (?:heart|cardiac silhouette)"
    ),
    "nodule": r"\b(?:micro)?nodul(?:es?|ar|arity)\b",
    "mass": r"\bmass(?:es)?\b(?![- ](?:effect|like))",
    "pericardial effusion": r"\bpericardial (?:(?:or|and) pleural )?(?:effusions?|fluid)\b",
    "pleural effusion": r"\bpleural (?:(?:or|and) pericardial )?(?:effusions?|fluid)\b"
    r"|(?<!pericardial )\beffusions?\b|\bhydro(?:pneumo)?thora(?:x|ces)\b",
    "pneumothorax": r"\b(?:hydro)?pneumothora(?:x|ces)\b",
    "consolidation": r"\bconsolidations?\b|\bconsolidated\b|\bconsolidative\b"
    r"|\bair[- ]?space (?:opacit(?:y|ies)|disease)\b",
    "atelectasis": r"\batelecta(?:sis|ses|tic)\b|\b(?:lobar|lobe|lung|segmental) collapse\b"
    r"|\bcollapse of the (?:[\w-]+ ){0,3}(?:lobe|lung)\b",
    "edema": r"\bo?edema(?:tous)?\b",
    "vascular congestion": r"\b(?:vascular|venous) congestion\b",
    "pneumonia": r"\bpneumonias?\b|\bpneumonic\b|\bpneumonitis\b",
    "opacity": r"\bopacit(?:y|ies)\b|\bopacification\b|\binfiltrates?\b|\binfiltration\b",
    "malignancy": r"\bmalignan(?:t|cy|cies)\b|\bcancers?\b|\bcarcinomas?\b|\btumou?rs?\b|\bneoplas(?:m|ms|ia|tic)\b"
    r"|\blymphomas?\b|\bsarcomas?\b",
    "metastasis": r"\bmetasta(?:sis|ses|tic)\b",
    "lymphadenopathy": r"\b(?:lymph)?adenopathy\b|\benlarged lymph nodes?\b",
    "fracture": r"\bfractur(?:e|es|ed)\b",
    "emphysema": r"(?<!subcutaneous )(?<!mediastinal )\bemphysema(?:tous)?\b|\bbullae?\b|\bbullous\b(?! emphysema)",
    "subcutaneous emphysema": r"\bsubcutaneous (?:emphysema|air|gas)\b",
    "hyperinflation": r"\bhyper(?:-?inflat|expan|disten)(?:ion|sion|ded|ed)\b",
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

DEVICES: dict[str, str] = {  # of which no expert that ships speaks, so that a sentence on them rests on nothing
    "endotracheal tube": r"\b(?:endotracheal|tracheal|tracheostomy|ET) tubes?\b|\bETT\b",
    "nasogastric tube": r"\b(?:nasogastric|orogastric|gastric|enteric|feeding|NG) tubes?\b",
    "central venous catheter": r"\bcentral (?:venous )?(?:lines?|catheters?)\b|\bPICC\b",
    "chest tube": r"\b(?:chest|thoracostomy|pleural) (?:tubes?|drains?)\b",
    "cardiac pacemaker": r"\bpacemakers?\b|\bdefibrillators?\b",
    "sternal wire": r"\b(?:sternal|sternotomy) wires?\b",
    "ecg lead": r"\b(?:ECG|EKG) (?:leads?|electrodes?)\b",
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
    codes.EMPHYSEMA: "emphysema",
}

COMPILED = {term: re.compile(pattern, re.IGNORECASE) for term, pattern in (PATHOLOGIES | DEVICES).items()}

VERB = r"(?:is|are|was|were|has|have|shows?|measures?|lies?|appears?|remains?)"
CLAUSE_END = re.compile(
    r"[.;:](?=\s|$)|\s(?:[–—]|--?)\s|,?\s(?:but|however|although|though|yet|while|whereas|except(?: for)?"
    r"|apart from|aside from|otherwise|nevertheless)\b"
    rf"|(?:,|\sand|,\sand)\sthe\s(?=(?:(?!and\b|or\b)[\w-]+\s){{1,4}}{VERB}\b)"
    rf"|,\s(?=(?:(?!and\b|or\b|nor\b|not\b)[\w-]+\s){{1,5}}(?:{VERB}|not)\b)"
    r"|,\s(?:there|this|it|which|a|an|with)\b|\sand (?:there|a|an|it|this)\b",
    re.IGNORECASE,
)
PHRASE_END = re.compile(r",|\b(?:and|or|nor|with|without|versus|vs)\b|[.;:](?=\s|$)", re.IGNORECASE)
FORWARD_END = re.compile(  # what is said before it reaches no further: "no edema with a stable effusion"
    r"(?<!consistent )(?<!compatible )\bwith (?:an?|the|stable|unchanged|persistent|new|increas\w+|decreas\w+"
    r"|worsening|improving|small|moderate|large|mild|minimal|trace|bilateral|left|right|associated|adjacent"
    r"|overlying|underlying)\b",
    re.IGNORECASE,
)
PREDICATE_END = re.compile(rf"\b{VERB}\b[^,]*?(?P<end>\band\b)", re.IGNORECASE)  # "is stable and an effusion has gone"
PLACE_WORDS = (
    r"(?:the|an?|in|on|at|of|to|small|tiny|trace|moderate|large|mild|minimal|slight|severe|lesser|greater|extent|than"
    r"|upper|mid|middle|lower|lobes?|lungs?|bases?|basilar|basal|apex|apices|apical|sides?|zones?|hemithorax"
    r"|left|right|left-sided|right-sided|bilateral|bilaterally|lingula)"
)
ONLY_PLACE = re.compile(rf"\s*(?:{PLACE_WORDS}\s+)*{PLACE_WORDS}\s*", re.IGNORECASE)  # "small right" of "... and left"
ORGAN = re.compile(  # a thing of its own, not where the next one lies: "the left lung and an effusion"
    r"(?!\s*(?:in|on|at|of|to)\b).*\b(?:lungs?|lobes?|bases?|apex|apices|zones?|hemithorax|lingula)\b",
    re.IGNORECASE,
)

NOT_ASSESSED = re.compile(
    r"\b(?:not|n't|cannot be|could not be|never)\s+(?:been\s+|be\s+|yet\s+|fully\s+)*(?:assess(?:ed)?"
    r"|evaluat(?:ed?)|examined?)\b"
    r"|\bunassessed\b|\bno assessment\b|\bnot assess\b",
    re.IGNORECASE,
)
DOUBT = (
    r"possibl[ey]|probabl[ey]|likely|suspect(?:ed)?|suspicious|questionable|questioned|equivocal|indeterminate|uncertain"
    r"|unclear|doubtful|borderline|not certain"
)
UNCERTAIN_BEFORE = re.compile(
    rf"\b(?:{DOUBT}|may|might|could|suspicion|perhaps|whether|question|suggest(?:s|ive|ing|ed)?"
    r"|concern(?:ing)? for|differential|favou?r(?:s|ed|ing)?|versus|vs)\b|(?<!\w)\?",
    re.IGNORECASE,
)
UNCERTAIN_AFTER = re.compile(
    rf"\b(?:is|are|was|were|remains?|seems?|appears?|be|as)\s(?:\w+\s)?(?:{DOUBT}|unlikely|suggested|a possibility)\b"
    r"|\b(?:may|might|could) (?:\w+ )?be (?:present|seen|there)\b|\bversus\b|\bvs\b|\?"
    r"|\b(?:cannot|can not|could not|not) (?:be )?(?:\w+ )?(?:excluded|ruled out)\b"
    r"|\b(?:difficult|hard) to (?:\w+ )?(?:exclude|rule out)\b|^[\s,]*(?:possible|suspected|questioned|likely)\s*$",
    re.IGNORECASE,
)
DOUBTED_DENIAL = re.compile(  # before a term: words of denial that leave it open
    r"\b(?:likely|probably|possibly|perhaps|presumably) (?:no|not|without|absent)\b|\b(?:may|might) not\b"
    r"|\b(?:cannot|can not|not|to) (?:be )?(?:entirely |fully |definitely |completely )*(?:exclude|rule out)\b"
    r"|\bunlikely\b",
    re.IGNORECASE,
)
PARTLY = r"(?:partial(?:ly)?|partly|incomplete(?:ly)?|largely|mostly|nearly|almost|near)"
NEGATION_PSEUDO = re.compile(
    r"\b(?:no|without) (?:significant |interval |appreciable |definite |relevant |measurable |substantial )*"
    r"(?:change|increase|decrease|growth|progression|worsening|improvement)\b(?: in| of)?"
    r"|\bnot only\b|\bnot without\b|\bno (?:new|larger|further|additional)\b|\bnot (?:changed|increased|grown|larger"
    r"|smaller|large|significantly changed)\b"
    rf"|\b(?:{PARTLY}|not)[- ](?:yet |complete(?:ly)? |fully |entirely )*(?:resolv|clear|disappear)(?:ed|ing)\b"
    rf"|\b{PARTLY}[- ](?:complete |interval )*(?:resolution|clearing|disappearance)\b(?: of)?"
    r"|\bno longer (?:larger|growing)\b|\bno prior\b|\bno comparison\b",
    re.IGNORECASE,
)
NEGATION_BEFORE = re.compile(
    r"\b(?:no|without|not|absence of|negative for|free of|free from|clear of|neither|nor|lack of|excludes?"
    r"|excluding|ruled out|isn't|aren't|resolution of|disappearance of)\b"
    r"|^\s*(?:the |an? |interval |now )*resolved\b",
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
    r"\b(?P<left>left(?:-sided|sided)?|lingula|l[ul]l)\b|\b(?P<right>right(?:-sided|sided)?|middle lobe|r[uml]l)\b"
    r"|\b(?P<both>bilateral(?:ly)?|both|bibasilar|bibasal|biapical|(?:on|of) either side)\b",
    re.IGNORECASE,
)
LOBE_WORD = re.compile(r"\b(?P<lobe>upper|middle|lower)[- ]lobes?\b|\b(?P<lingula>lingula)\b", re.IGNORECASE)

CHANGE_WORDS: tuple[tuple[Change | None, re.Pattern[str]], ...] = tuple(
    (change, re.compile(pattern, re.IGNORECASE))
    for change, pattern in (
        (
            Change.NEW,
            r"\bnew(?:ly)?\b|\bhas (?:developed|appeared)\b|\bhave (?:developed|appeared)\b",
        ),
        (
            Change.LARGER,
            r"\blarger\b|\bbigger\b|\bgrow(?:n|th|ing|s)?\b|\bgrew\b"
            r"|\bincreas(?:e|ed|es|ing)\b|\bwors(?:e|ened|ening|ens)\b|\bprogress(?:ed|ion|ive|ing)\b",
        ),
        (
            Change.STABLE,
            r"\bstable\b|\bunchanged\b|\bno (?:significant |interval |appreciable |relevant |measurable )*change\b"
            r"|\bnot (?:significantly )?changed\b|\bwithout (?:significant |interval )*change\b"
            r"|\bpersist(?:s|ent|ing|ed)?\b|\bsimilar to\b|\bsimilar in\b",
        ),
        (
            Change.SMALLER,
            rf"\bsmaller\b|\bdecreas(?:e|ed|es|ing)\b|\bshr(?:unk|ank|inking)\b|\bimprov(?:ed|ement|ing|es)\b"
            r"|\bregress(?:ed|ion|ing)\b|\breduced\b|\bdiminished\b|\bresolving\b|\bclearing\b"
            rf"|\b{PARTLY}[- ](?:\w+ )?(?:resolved|cleared|resolution)\b",
        ),
        (
            Change.RESOLVED,
            r"\bresolv(?:ed|es)\b|(?<!high[- ])\bresolution\b|\bcleared\b|\bdisappeared\b|\bno longer\b",
        ),
        (
            None,
            r"\bprevious(?:ly)?\b|\bprior\b|\bearlier\b|\bcompared (?:with|to)\b|\bin comparison\b"
            r"|\binterval\b|\bsince the\b"
            r"|\bagain (?:seen|noted|demonstrated)\b|\bchanged?\b|\bchanges (?:since|from|in size)\b|\bago\b"
            r"|\bformerly\b|\bin the meantime\b",
        ),
    )
)
NOT_RESOLVED = re.compile(rf"\b(?:{PARTLY}|not|n't)[- ](?:\w+ ){{0,2}}$", re.IGNORECASE)
NEGATED_CHANGE = re.compile(r"\b(?:no|not|without|neither|nor|n't|no longer)\s+(?:\w+\s+){0,2}$", re.IGNORECASE)

NORMAL_HEART = re.compile(
    rf"\b{HEART_WORDS}\b(?:(?!enlarge)[^.;:]){{0,60}}?\bnormal\b(?! limits? of)"
    r"|\bnormal (?:heart|cardiac|cardiomediastinal)\b",
    re.IGNORECASE,
)
NORMALITY = re.compile(
    r"\b(?:normal|unremarkable)\b|\blungs?(?: fields?)? (?:is|are) (?:well aerated and )?clear\b|\bclear lungs?\b"
    r"|\bno (?:other |acute |significant |focal |further |cardiopulmonary )*(?:abnormalit(?:y|ies)"
    r"|disease|patholog(?:y|ies)|process|findings?)\b"
    r"|\bwithin normal limits\b|\bhealthy\b|\b(?:is|are|lies?|remains?) (?:in the )?midline\b",
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
    begin, end = clause_of(text, first, stop)
    low, high = _phrase(text, begin, end, first, stop)
    return Mention(term, _polarity(text[begin:end], text[begin:start], text[stop:end]), start, stop, text[low:high])


def clause_of(text: str, start: int, stop: int) -> tuple[int, int]:
    """Where the clause around text[start:stop] begins and ends."""
    begin, end = 0, len(text)
    for match in CLAUSE_END.finditer(text):
        if match.end() <= start:
            begin = match.end()
        elif match.start() >= stop:
            end = match.start()
            break
    if ONLY_PLACE.fullmatch(text[:begin].rstrip(" ,")):  # "In the left lung, nodules are seen": no clause of its own
        begin = 0
    return begin, end


def _phrase(text: str, begin: int, end: int, first: int, stop: int) -> tuple[int, int]:
    """The phrase around an expression in its clause, with neighbours that name a place and nothing else.

    Of "a small right and a moderate left effusion" that is all; of "right effusion, left nodule" the nearer half.
    """
    ends = [match.span() for match in PHRASE_END.finditer(text, begin, end)]
    before = [each for each in ends if each[1] <= first]
    after = [each for each in ends if each[0] >= stop]
    low, high = before[-1][1] if before else begin, after[0][0] if after else end
    for number in range(len(before) - 1, -1, -1):
        start = before[number - 1][1] if number else begin
        words = text[start : before[number][0]]
        if not ONLY_PLACE.fullmatch(words) or ORGAN.match(words):
            break
        low = start
    for number, (_, start) in enumerate(after):
        until = after[number + 1][0] if number + 1 < len(after) else end
        is_last = until == end
        if not ONLY_PLACE.fullmatch(text[start:until]) or (SIDE_WORD.search(text[low:high]) and not is_last):
            break
        high = until
    return low, high


def _polarity(clause: str, before: str, after: str) -> Polarity:
    """before, after: of the term within the clause. A denial before it decides first, then what is said after it."""
    before = before[max((match.start() for match in FORWARD_END.finditer(before)), default=0) :]
    if predicate := PREDICATE_END.search(after):
        after = after[: predicate.start("end")]
    if NOT_ASSESSED.search(clause):
        return Polarity.NOT_ASSESSED
    if DOUBTED_DENIAL.search(before):
        return Polarity.UNCERTAIN
    if NEGATION_BEFORE.search(NEGATION_PSEUDO.sub(" ", before)):
        return Polarity.ABSENT
    if UNCERTAIN_AFTER.search(after):
        return Polarity.UNCERTAIN
    if NEGATION_AFTER.search(NEGATION_PSEUDO.sub(" ", after)):
        return Polarity.ABSENT
    return Polarity.UNCERTAIN if UNCERTAIN_BEFORE.search(before) else Polarity.PRESENT


def sides(text: str) -> set[Side]:
    """The sides that a text names; "both" and "bilateral" are BILATERAL."""
    named = {"left": Side.LEFT, "right": Side.RIGHT, "both": Side.BILATERAL}
    return {named[match.lastgroup or ""] for match in SIDE_WORD.finditer(text)}


def qualities(text: str) -> list[tuple[Code, re.Match[str]]]:
    """Values of attributes that the text names, each with the word that does."""
    return [(value, match) for value, pattern in QUALITIES.items() for match in pattern.finditer(text)]


def changes(text: str) -> list[tuple[Change | None, str]]:
    """Words of change with what they claim: a Change, or None where they only look back or deny a change."""
    return [(None if is_denied else change, words) for change, is_denied, words in _changes(text)]


def denied_changes(text: str) -> list[tuple[Change, str]]:
    """Changes that the text says did not happen, each with its word: "has not increased"."""
    return [(change, words) for change, is_denied, words in _changes(text) if change is not None and is_denied]


def _changes(text: str) -> Iterator[tuple[Change | None, bool, str]]:
    """Each word of change with its Change, None where it only looks back, and whether that is denied."""
    for change, pattern in CHANGE_WORDS:
        for match in pattern.finditer(text):
            before = text[: match.start()]
            is_denied = change not in (Change.STABLE, Change.RESOLVED) and bool(NEGATED_CHANGE.search(before))
            is_denied = is_denied or (change is Change.RESOLVED and bool(NOT_RESOLVED.search(before)))
            yield change, is_denied, match.group()
