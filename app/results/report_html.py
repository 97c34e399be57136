"""The report as one self-contained page: pictures with drawn regions, and sentences that light them up.

The page asks for nothing from outside: style, script and pictures are in it, and its content security policy forbids
everything else. All text is escaped by the template engine.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from app.results import words
from app.results.guideline import guideline_of
from app.results.pictures import Picture, pictures_of, sentence_id
from app.results.record import Record
from app.results.shapes import Shape
from expert_models.codes import ANATOMY
from expert_models.finding import Finding
from medmllm.report import Section


def html_page(record: Record, *, with_pictures: bool = True) -> bytes:
    """The page as UTF-8. Without pictures it is a small document, fit to be carried inside a message."""
    pictures = pictures_of(record) if with_pictures else ()
    style, script = asset("report.css"), asset("report.js")
    report = record.report
    return (
        template()
        .render(
            record=record,
            report=report,
            words=words,
            organs=ANATOMY,
            pictures=[shown(each) for each in pictures],
            windows=list(dict.fromkeys(name for each in pictures for name, _ in each.images)),
            tones=tones_of(pictures),
            sections=sections_of(record),
            patient=patient_of(record),
            left_out=[*record.study.left_out, *(each for series in record.study.series for each in series.left_out)],
            experts=experts_of(record),
            guideline=guideline_of(record),
            style=Markup(style),  # noqa: S704 - our own file, and the policy's hash must fit it exactly
            script=Markup(script),  # noqa: S704
            policy=policy(style, script),
        )
        .encode()
    )


@cache
def template() -> Template:
    """The page's template, with autoescaping and no tolerance for a missing name."""
    loader = PackageLoader("app.results", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2")


@cache
def asset(name: str) -> str:
    """A file beside the template."""
    return files("app.results").joinpath("templates", name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """Nothing may be loaded, and only this very style and script may run."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (style, script)
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )


def shown(picture: Picture) -> dict[str, object]:
    """A picture as the template draws it."""
    return {
        "picture": picture,
        "images": [(name, "data:image/png;base64," + base64.b64encode(png).decode()) for name, png in picture.images],
        "shapes": [
            (shape, path_of(shape), label) for shape, label in zip(picture.shapes, labels_of(picture), strict=True)
        ],
        "letter": max(picture.width, picture.height) / 30,
    }


def path_of(shape: Shape) -> str:
    """The shape as SVG path data."""
    if shape.kind == "line":
        return "".join(f"M{x0:g} {y0:g}L{x1:g} {y1:g}" for (x0, y0), (x1, y1) in shape.strokes)
    return "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in path) + "Z" for path in shape.paths)


def labels_of(picture: Picture) -> list[tuple[float, float, str]]:
    """Where the labels stand: those of lines, which are always shown, moved down until none stands on another."""
    letter = max(picture.width, picture.height) / 30
    labels: list[tuple[float, float, str]] = []
    taken: list[tuple[float, float]] = []
    for shape in picture.shapes:
        x, y, anchor = label_of(shape, picture)
        if shape.kind == "line":
            while any(abs(x - other[0]) < 5 * letter and abs(y - other[1]) < letter for other in taken):
                y += letter / 4
            taken.append((x, y))
        labels.append((x, y, anchor))
    return labels


def label_of(shape: Shape, picture: Picture) -> tuple[float, float, str]:
    """Where the shape's label stands, and how it is anchored, so that it stays inside the picture."""
    height = max(picture.width, picture.height) / 30
    x, y = shape.place
    y += height * 1.1 if shape.kind == "line" else -height * 0.4
    anchor = "middle"
    reach = 0.28 * height * len(shape.short_label)
    if x < reach:
        x, anchor = height * 0.3, "start"
    elif x > picture.width - reach:
        x, anchor = picture.width - height * 0.3, "end"
    return x, max(y, height), anchor


def tones_of(pictures: tuple[Picture, ...]) -> dict[str, str]:
    """The colour in which each finding is drawn, by its id."""
    return {target: shape.tone for each in pictures for shape in each.shapes for target in shape.targets}


def sections_of(record: Record) -> list[dict[str, object]]:
    """The sections in order, each sentence with what it lights, what it cites and what is doubtful about it."""
    sections: list[dict[str, object]] = []
    for section in Section:
        sentences = [
            {
                "text": sentence.text,
                "lights": " ".join((*words.references_of(sentence), sentence_id(position))),
                "references": words.references_of(sentence),
                "doubts": words.doubts_of(sentence),
                "mark": words.mark_of(sentence),
            }
            for position, sentence in enumerate(record.report.sentences)
            if sentence.section is section
        ]
        if sentences:
            sections.append({"title": words.SECTIONS[section], "key": section.value, "sentences": sentences})
    return sections


def patient_of(record: Record) -> list[tuple[str, str]]:
    """What identifies the patient and the study, as the images state it: a clinician must see whose report it is."""
    header, study = record.header, record.study
    found: list[tuple[str, str]] = []
    if header is not None:
        name = header.get("PatientName")
        found += [
            ("Patient", name.family_comma_given() if name else ""),
            ("ID", str(header.get("PatientID") or "")),
            ("Born", day_of(str(header.get("PatientBirthDate") or ""))),
            ("Sex", str(header.get("PatientSex") or "")),
        ]
    found += [
        ("Study", study.request.procedure),
        ("Date", f"{study.acquired_on:%Y-%m-%d %H:%M}" if study.acquired_on else ""),
        ("Accession", study.request.accession),
    ]
    return [(name, value) for name, value in found if value]


def day_of(date: str) -> str:
    """A DICOM date as 2024-03-05; anything else as it is."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date


def experts_of(record: Record) -> list[Finding]:
    """One finding of each expert that took part, for its name, version and weights."""
    return list({finding.expert: finding for finding in record.report.findings}.values())
