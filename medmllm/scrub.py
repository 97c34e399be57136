"""Free text typed by people, made fit to leave the department's own screens: no names, dates or numbers of record.

Rules, not a model: they err towards removing. What is removed leaves a word in brackets, so that a reader sees it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dicom_io.study import Study

MONTHS = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
NAME = r"[^\W\d_][\w'’\-]*"
CAPITAL = r"(?-i:[A-ZÀ-ÖØ-Þ])[\w'’\-]*\.?"

RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), word)
    for pattern, word in (
        (r"https?://\S+|\bwww\.\S+", "[link]"),
        (r"[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+", "[address]"),
        (r"\b\d+(?:\.\d+){4,}\b", "[number]"),  # DICOM UIDs
        (rf"\b{NAME}(?:\s{NAME})?\^{NAME}?(?:\^{NAME})*", "[name]"),  # person names as DICOM writes them
        (r"\b\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[T ]\d{1,2}:\d{2}(?::\d{2})?)?\b", "[date]"),
        (r"\b\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})\b", "[date]"),
        (rf"\b\d{{1,2}}(?:st|nd|rd|th)?[ .\-]+(?:of )?{MONTHS}\b\.?(?:[ ,\-]+(?:\d{{4}}|'?\d{{2}}))?\b", "[date]"),
        (rf"\b{MONTHS}\.? \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?\b", "[date]"),
        (rf"\b{MONTHS}\.?,? (?:19|20)\d{{2}}\b", "[date]"),
        (r"\b(?:19|20)\d{2}\b", "[date]"),
        (
            r"\b(?:MRN|PID|NHS|SSN|DOB|D\.O\.B\.|acc(?:ession)?|patient id|id)\b\s*(?:no\.?|number"
            r"|nr\.?|#)?\s*[:#=]?\s*"
            r"(?=[\w\-/]*\d)[\w\-/]+",
            "[number]",
        ),
        (r"\b[A-Z]{0,4}[\-#]?\d{5,}[\w\-]*", "[number]"),
        (r"\b\d{2,4}(?:[ \-]\d{2,4}){2,}\b", "[number]"),
        (
            rf"\b(?:dr|doctor|prof|professor|mr|mrs|ms|miss|mx|sir|dame)\b\.?\s+{CAPITAL}(?:\s+{CAPITAL}){{0,2}}",
            "[name]",
        ),
        (rf"\b(?:dr|prof|mr|mrs|ms)\.?\s+{NAME}", "[name]"),
        (
            r"\b(?:name|patient|pt|ref(?:erred)? by|referrer|requested by|signed|call)\b\s*[:=]?\s+"
            r"(?:(?-i:[A-ZÀ-ÖØ-Þ])[\w'’\-]+)(?:,?\s+(?-i:[A-ZÀ-ÖØ-Þ])[\w'’\-]*\.?)+",
            "[name]",
        ),
        (rf"\b(?:name)\s*[:=]\s*{NAME}(?:,?\s+{NAME})?", "[name]"),
    )
)
PAIR = re.compile(
    r"\b[A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ'’\-]+(?:, ?| (?:[A-ZÀ-ÖØ-Þ]\. )?)"
    r"(?:[A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ'’\-]+)(?: [A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ'’\-]+)?\b"
)
MEDICAL = frozenset((
    "abdomen", "abdominal", "acute", "airway", "ankle", "aortic", "assess", "asthma", "back", "bilateral",
    "bleeding", "bone", "breath", "breathing", "bronchial", "cancer", "cardiac", "catheter", "cell", "check",
    "chest", "chronic", "clinical", "control", "copd", "cough", "covid", "ct", "dehydration", "disease",
    "distress", "dyspnea", "dyspnoea", "edema", "effusion", "embolism", "emphysema", "evaluate", "evaluation",
    "exclude", "exposure", "failure", "fall", "fever", "fibrosis", "follow", "followup", "fracture", "heart",
    "history", "hodgkin", "hypoxia", "increasing", "infection", "injury", "known", "left", "line", "lobe",
    "loss", "low", "lower", "lung", "lymph", "malignancy", "mass", "metastatic", "mild", "new", "nodule",
    "nodules", "oedema", "of", "on", "out", "pain", "placement", "pleural", "pneumonia", "pneumothorax",
    "possible", "post", "postoperative", "preoperative", "productive", "pulmonary", "query", "question",
    "recent", "recurrent", "renal", "respiratory", "rib", "right", "routine", "rule", "screening", "severe",
    "shortness", "shoulder", "side", "smoker", "sob", "sputum", "status", "suspected", "sweats", "thoracic",
    "trauma", "tube", "tuberculosis", "upper", "weight", "wheeze", "with", "worsening", "x", "xray",
))  # fmt: skip


def scrub(text: str, known: Sequence[str] = (), most: int = 400) -> str:
    """One line of at most `most` characters without dates, long numbers, links and words that look like names.

    known: identifiers that are known to belong to the patient or the study; each is removed wherever it stands.
    A single capitalised name with nothing around it that says so cannot be told from a medical word, and stays.
    """
    text = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    for identifier in known:
        if len(identifier.strip()) > 2:
            text = re.sub(re.escape(identifier.strip()), "[number]", text, flags=re.IGNORECASE)
    for pattern, word in RULES:
        text = pattern.sub(word, text)
    text = PAIR.sub(_name_or_medicine, text)
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _name_or_medicine(match: re.Match[str]) -> str:
    """Two or three capitalised words in a row are a name, unless one of them is an everyday word of a request."""
    words = re.findall(r"[^\W\d_]+", match.group().casefold())
    return match.group() if MEDICAL & set(words) else "[name]"


def scrubbed_indication(study: Study) -> str:
    """Why the study was made, as typed, without what names the patient, this study or a prior of it."""
    known = [
        identifier
        for each in (study, *study.priors)
        for identifier in (each.uid, each.patient_key, each.request.accession)
        if identifier
    ]
    return scrub(study.request.indication, known)
