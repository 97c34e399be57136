"""What a study says in words: the request it was made for, its dates, and the text of a report that came with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from pydicom.dataset import Dataset

from dicom_io.read import text
from dicom_io.study import Request

# A date of the study itself first; the fallbacks are those that every image states.
DATES = (
    ("StudyDate", "StudyTime"),
    ("AcquisitionDate", "AcquisitionTime"),
    ("SeriesDate", "SeriesTime"),
    ("ContentDate", "ContentTime"),
)
MEASUREMENT_TITLES = frozenset(["126000"])  # Imaging Measurement Report (DCM): numbers, not a report's text


def acquired_on(dataset: Dataset) -> datetime | None:
    """When the study was made, in the site's time: StudyDate and StudyTime, or the image's own, or None."""
    for date_keyword, time_keyword in DATES:
        date = re.fullmatch(r"(\d{4})[.:-]?(\d\d)[.:-]?(\d\d)", text(dataset, date_keyword))
        if date is None:
            continue
        time = re.match(r"(\d\d):?(\d\d)?:?(\d\d)?", text(dataset, time_keyword))
        clock = [int(part or 0) for part in time.groups()] if time else [0, 0, 0]
        try:
            year, month, day = (int(part) for part in date.groups())
            return datetime(year, month, day, clock[0], clock[1], min(clock[2], 59))
        except ValueError:  # 30 February, 25 o'clock
            continue
    return None


def age_of(dataset: Dataset) -> int | None:
    """Whole years of the patient at the study: PatientAge (PS3.5 6.2, VR AS: 045Y, 012M), else by birth date.

    None where neither says so, or the study precedes the birth.
    """
    stated = re.fullmatch(r"(\d{1,3})([YMWD])", text(dataset, "PatientAge").upper())
    if stated:
        return int(int(stated[1]) / {"Y": 1, "M": 12, "W": 52.18, "D": 365.25}[stated[2]])
    born = re.fullmatch(r"(\d{4})[.:-]?(\d\d)[.:-]?(\d\d)", text(dataset, "PatientBirthDate"))
    when = acquired_on(dataset)
    if born is None or when is None:
        return None
    year, month, day = (int(part) for part in born.groups())
    years = when.year - year - ((when.month, when.day) < (month, day))
    return years if 0 <= years < 130 else None


def request_of(datasets: Sequence[Dataset]) -> Request:
    """Why the study was made: for each field the first of its attributes that any of the images states."""
    return Request(
        indication=_first(
            datasets,
            lambda d: text(d, "ReasonForTheRequestedProcedure"),
            lambda d: _within(d, "RequestAttributesSequence", "ReasonForTheRequestedProcedure"),
            lambda d: _meaning(d, "ReasonForRequestedProcedureCodeSequence"),
            lambda d: text(d, "ReasonForStudy"),
            lambda d: text(d, "AdmittingDiagnosesDescription"),
        ),
        procedure=_first(
            datasets,
            lambda d: text(d, "RequestedProcedureDescription"),
            lambda d: _within(d, "RequestAttributesSequence", "RequestedProcedureDescription"),
            lambda d: text(d, "StudyDescription"),
            lambda d: _meaning(d, "ProcedureCodeSequence"),
        ),
        accession=_first(datasets, lambda d: text(d, "AccessionNumber")),
    )


def is_narrative(dataset: Dataset) -> bool:
    """False for a structured report of measurements, whose values are not a report's text."""
    title = _item(dataset, "ConceptNameCodeSequence")
    return title is None or text(title, "CodeValue") not in MEASUREMENT_TITLES


def rank(dataset: Dataset) -> tuple[bool, bool, str]:
    """For choosing among several reports: verified before unverified, complete before partial, then the newest."""
    when = text(dataset, "ContentDate") + text(dataset, "ContentTime")
    return text(dataset, "VerificationFlag") == "VERIFIED", text(dataset, "CompletionFlag") == "COMPLETE", when


def report_text(dataset: Dataset) -> str:
    """The text of a structured report (PS3.3 C.17.3): headings, then what stands under them, one line each.

    Read are CONTAINER, TEXT, CODE and NUM items. Who observed, when, and which images are meant are left out: names,
    dates and UIDs have no place in what a model reads.
    """
    return "\n".join(_lines(dataset)).strip()


def _lines(item: Dataset) -> Iterator[str]:
    for child in item.get("ContentSequence") or []:
        if text(child, "RelationshipType") in ("HAS OBS CONTEXT", "HAS ACQ CONTEXT", "HAS CONCEPT MOD"):
            continue
        name = _meaning(child, "ConceptNameCodeSequence")
        match text(child, "ValueType"):
            case "CONTAINER":
                lines = list(_lines(child))
                if lines:
                    yield from (f"{name}:", *lines) if name else lines
                continue
            case "TEXT":
                yield _line(name, _paragraphs(child))
            case "CODE":
                yield _line(name, _meaning(child, "ConceptCodeSequence"))
            case "NUM":
                measured = _item(child, "MeasuredValueSequence")
                if measured is not None:
                    yield _line(name, f"{text(measured, 'NumericValue')} {_unit(measured)}".strip())
        yield from _lines(child)


def _paragraphs(item: Dataset) -> str:
    lines = str(item.get("TextValue") or "").replace("\0", " ").splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())


def _unit(measured: Dataset) -> str:
    """UCUM's own symbol ("mm"), else the meaning; "" for a number without a unit."""
    unit = _item(measured, "MeasurementUnitsCodeSequence")
    if unit is None or text(unit, "CodeMeaning") == "no units":
        return ""
    return text(unit, "CodeValue" if text(unit, "CodingSchemeDesignator") == "UCUM" else "CodeMeaning")


def _line(name: str, value: str) -> str:
    generic = name.lower() in ("", "finding", "findings", "impression", "conclusion", "text", "description")
    return value if generic else f"{name}: {value}"


def _first(datasets: Iterable[Dataset], *attributes: Callable[[Dataset], str]) -> str:
    datasets = list(datasets)
    return next((value for attribute in attributes for dataset in datasets if (value := attribute(dataset))), "")


def _item(dataset: Dataset, keyword: str) -> Dataset | None:
    items = dataset.get(keyword)
    return items[0] if items else None


def _within(dataset: Dataset, sequence: str, keyword: str) -> str:
    item = _item(dataset, sequence)
    return "" if item is None else text(item, keyword)


def _meaning(dataset: Dataset, sequence: str) -> str:
    return _within(dataset, sequence, "CodeMeaning")
