"""The report as a PDF of a few pages: the same words and pictures as the page, for printing and for document stores."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from xml.sax.saxutils import escape

from reportlab import rl_config
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_LEFT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    CondPageBreak,
    Flowable,
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

from app.results import words
from app.results.fonts import font_files
from app.results.pictures import Picture, pictures_of
from app.results.record import Record
from app.results.report_html import patient_of
from app.results.shapes import Shape
from dicom_io.study import LeftOut
from medmllm.report import Section, Sentence, Signature

# Streams as bytes, not as ASCII85 text, which reportlab encodes in Python: that took most of the time of a PDF.
rl_config.useA85 = 0

MARGIN = 15 * mm
WIDTH = A4[0] - 2 * MARGIN
INK, QUIET, RULE, WARN, BAD, SHADE = (
    HexColor(each) for each in ("#1b2129", "#5a6573", "#d9dee5", "#8a4b00", "#a3231f", "#eef2f6")
)
BANNER_TONE, SIGNED_TONE = HexColor("#b3261e"), HexColor("#1d5c46")
MOST_PICTURES = 6
MISSING = "\N{WHITE SQUARE}"


def pdf_document(record: Record) -> bytes:
    """The PDF. What its font cannot draw is shown as a white square, and a note says so."""
    typeface = Typeface()
    report = record.report
    story: list[Flowable] = [header(record, typeface)]
    story += [typeface.boxed(notice) for notice in report.notices]
    pictures = pictures_of(record)
    story += [Spacer(0, 2 * mm), *gallery(pictures[:MOST_PICTURES], typeface)]
    if len(pictures) > MOST_PICTURES:
        story.append(typeface.quiet(f"{len(pictures) - MOST_PICTURES} more pictures are in report.html."))
    for section in Section:
        if sentences := report.section(section):
            story += headed(typeface.heading(words.SECTIONS[section]))
            story += [typeface.sentence(each) for each in sentences]
    if report.findings:
        story += [*headed(typeface.heading("Findings of the experts")), findings_table(record, typeface)]
    if report.comparisons:
        story += [*headed(typeface.heading("Since the prior")), comparisons_table(record, typeface)]
    if report.evidence:
        story += headed(typeface.heading("Literature"))
        for each in report.evidence:
            passage = [typeface.plain(f"[{each.id}] {words.cited(each.citation)}"), typeface.quiet(each.text)]
            story.append(KeepTogether(passage))
    if left_out := left_out_of(record):
        story += headed(typeface.heading("Left out"))
        story += [typeface.quiet(f"{each.name}: {each.reason}") for each in left_out]
    story.append(Spacer(0, 3 * mm))
    story.append(typeface.quiet(f"Written by {words.writer_of(report)}."))
    if typeface.missed:
        story.append(typeface.quiet(f"{MISSING} stands for a character that this PDF's font lacks; see report.html."))
    buffer = BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=MARGIN - 6,  # reportlab's frames pad their content by 6 points
        rightMargin=MARGIN - 6,
        topMargin=15 * mm,
        bottomMargin=16 * mm,
        title="Draft report" if report.is_draft else "Signed report",
        author=words.PRODUCT,
        subject=words.BANNER if report.is_draft else "",
        lang="en",
    )

    def furnish(canvas: Canvas, built: SimpleDocTemplate) -> None:
        furniture(canvas, built.page, typeface, report.signature)

    document.build(story, onFirstPage=furnish, onLaterPages=furnish)
    return buffer.getvalue()


def headed(heading: Paragraph) -> list[Flowable]:
    """A heading that does not stand alone at the foot of a page; a long table after it may still be split."""
    return [CondPageBreak(25 * mm), heading]


def furniture(canvas: Canvas, page: int, typeface: Typeface, signature: Signature | None) -> None:
    """The banner, or who has signed, and the foot of every page."""
    canvas.saveState()
    canvas.setFillColor(BANNER_TONE if signature is None else SIGNED_TONE)
    canvas.rect(0, A4[1] - 12 * mm, A4[0], 12 * mm, stroke=0, fill=1)
    canvas.setFillColor(HexColor("#ffffff"))
    said = typeface.drawable(words.BANNER if signature is None else words.signed_by(signature))
    size = min(11.0, 11.0 * WIDTH / pdfmetrics.stringWidth(said, typeface.bold, 11))
    canvas.setFont(typeface.bold, size)
    canvas.drawString(MARGIN, A4[1] - 7.8 * mm, said)
    canvas.setFillColor(QUIET)
    canvas.setFont(typeface.regular, 8)
    kind = "draft report" if signature is None else "report"
    canvas.drawString(MARGIN, 9 * mm, f"{words.PRODUCT} {kind}. Holds patient data.")
    canvas.drawRightString(A4[0] - MARGIN, 9 * mm, f"Page {page}")
    canvas.restoreState()


def header(record: Record, typeface: Typeface) -> Flowable:
    """Who and what the report is about."""
    told = " &nbsp; ".join(
        f'<font color="#5a6573">{typeface.safe(name)}</font>&nbsp;<b>{typeface.safe(value).replace(" ", "&nbsp;")}</b>'
        for name, value in patient_of(record)
    )
    return Paragraph(told or "No patient is named in the images.", typeface.style(9.5, leading=14))


def findings_table(record: Record, typeface: Typeface) -> Table:
    """What each expert says."""
    rows = [["Id", "Finding", "Presence", "Prob.", "Site", "Qualities and measurements", "Expert"]]
    cells = [
        [
            each.id,
            words.title_of(each),
            words.PRESENCES[each.presence] + (f": {each.reason}" if each.reason else ""),
            words.probability_of(each),
            words.site_of(each),
            "; ".join([*map(words.stated, each.attributes), *map(words.described, each.measurements)]),
            f"{each.expert.name} {each.expert.version}",
        ]
        for each in record.report.findings
    ]
    return typeface.table([*rows, *cells], (0.05, 0.16, 0.17, 0.08, 0.14, 0.23, 0.17))


def comparisons_table(record: Record, typeface: Typeface) -> Table:
    """What changed."""
    rows = [["Id", "Finding", "Change", "Growth"]]
    cells = [
        [each.id, words.subject_of(record.report, each), words.CHANGES[each.change], words.growth_of(each)]
        for each in record.report.comparisons
    ]
    return typeface.table([*rows, *cells], (0.08, 0.5, 0.22, 0.2))


def gallery(pictures: tuple[Picture, ...], typeface: Typeface) -> list[Flowable]:
    """The pictures, two or three beside each other."""
    if not pictures:
        return []
    across = 3 if len(pictures) > 4 else 2
    room = (WIDTH - (across - 1) * 3 * mm) / across
    drawn = [PictureFlowable(each, room, 82 * mm, typeface) for each in pictures]
    rows: list[list[Flowable | str]] = [list(drawn[at : at + across]) for at in range(0, len(drawn), across)]
    rows[-1] += [""] * (across - len(rows[-1]))
    table = Table(rows, colWidths=[room + 3 * mm] * (across - 1) + [room], hAlign=TA_LEFT)
    table.setStyle(TableStyle([("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 0),
                               ("TOPPADDING", (0, 0), (-1, -1), 0), ("VALIGN", (0, 0), (-1, -1), "TOP")]))  # fmt: skip
    return [table]


class PictureFlowable(Flowable):  # type: ignore[misc]  # reportlab is untyped
    """A picture in its first window, its shapes drawn as vectors over it."""

    def __init__(self, picture: Picture, room: float, most_high: float, typeface: Typeface) -> None:
        super().__init__()
        self.picture, self.typeface = picture, typeface
        self.zoom = min(room / picture.width, most_high / picture.height)
        self.width, self.height = picture.width * self.zoom, picture.height * self.zoom + 11

    def draw(self) -> None:
        """Called by reportlab with the origin at the flowable's lower left corner."""
        canvas, picture, zoom = self.canv, self.picture, self.zoom
        canvas.saveState()
        canvas.setFillColor(QUIET)
        canvas.setFont(self.typeface.regular, 7.5)
        canvas.drawString(0, 2, self.typeface.drawable(picture.caption))
        canvas.translate(0, 11)
        tall = picture.height * zoom
        canvas.drawImage(ImageReader(BytesIO(picture.images[0][1])), 0, 0, picture.width * zoom, tall)
        clip = canvas.beginPath()
        clip.rect(0, 0, picture.width * zoom, tall)
        canvas.clipPath(clip, stroke=0, fill=0)
        for shape in picture.shapes:
            self.draw_shape(shape, tall)
        taken: list[tuple[float, float]] = []
        for line in (each for each in picture.shapes if each.kind == "line"):
            self.draw_amount(line, tall, taken)
        left, right, _, _ = picture.edges
        canvas.setFillColor(HexColor("#ffffff"))
        canvas.setFont(self.typeface.bold, 8)
        canvas.drawString(3, tall / 2, left)
        canvas.drawRightString(picture.width * zoom - 3, tall / 2, right)
        canvas.restoreState()

    def draw_shape(self, shape: Shape, tall: float) -> None:
        """One shape; picture space grows downwards, the page upwards."""
        canvas, zoom = self.canv, self.zoom
        canvas.setStrokeColor(HexColor(shape.tone))
        canvas.setLineWidth(0.6 if shape.is_organ else 1.0)
        canvas.setDash([3, 2] if shape.kind == "box" else [])
        if shape.kind == "line":
            for (x0, y0), (x1, y1) in shape.strokes:
                canvas.line(x0 * zoom, tall - y0 * zoom, x1 * zoom, tall - y1 * zoom)
            return
        path = canvas.beginPath()
        for corners in shape.paths:
            path.moveTo(corners[0][0] * zoom, tall - corners[0][1] * zoom)
            for x, y in corners[1:]:
                path.lineTo(x * zoom, tall - y * zoom)
            path.close()
        canvas.drawPath(path, stroke=1, fill=0)

    def draw_amount(self, line: Shape, tall: float, taken: list[tuple[float, float]]) -> None:
        """A line's amount below it, and below the amounts that are drawn already (`taken`: their middles)."""
        canvas = self.canv
        (x0, y0), (x1, y1) = line.paths[0]
        x, y = (x0 + x1) / 2 * self.zoom, tall - max(y0, y1) * self.zoom - 6.5
        wide = pdfmetrics.stringWidth(line.short_label, self.typeface.bold, 7) + 4
        while any(abs(x - other[0]) < wide and abs(y - other[1]) < 9.5 for other in taken):
            y -= 2
        taken.append((x, y))
        canvas.setFillColor(HexColor("#000000"))
        canvas.rect(x - wide / 2, y - 4.5, wide, 9, stroke=0, fill=1)
        canvas.setFillColor(HexColor(line.tone))
        canvas.setFont(self.typeface.bold, 7)
        canvas.drawCentredString(x, y - 2.5, line.short_label)


class Typeface:
    """The PDF's embedded font and its paragraphs; remembers whether a character had to be replaced."""

    def __init__(self) -> None:
        self.regular, self.bold = embedded_fonts()
        self.known = pdfmetrics.getFont(self.regular).face.charToGlyph
        self.missed = False

    def style(self, size: float = 9.5, *, color: HexColor = INK, leading: float = 0, **extra: object) -> ParagraphStyle:
        """A paragraph's style."""
        return ParagraphStyle(
            "wetread", fontName=self.regular, fontSize=size, leading=leading or size * 1.32, textColor=color, **extra
        )

    def drawable(self, text: str) -> str:
        """The text with what the font lacks replaced by a white square."""
        replaced = "".join(each if ord(each) in self.known else " " if each.isspace() else MISSING for each in text)
        self.missed |= MISSING in replaced and MISSING not in text
        return replaced

    def safe(self, text: str) -> str:
        """Text for a paragraph, whose own mark-up must not be spoken by what it says."""
        return escape(self.drawable(text))

    def plain(self, text: str) -> Paragraph:
        """Body text."""
        return Paragraph(self.safe(text), self.style())

    def quiet(self, text: str) -> Paragraph:
        """Small print."""
        return Paragraph(self.safe(text), self.style(8, color=QUIET, spaceAfter=2))

    def heading(self, text: str) -> Paragraph:
        """A section's heading."""
        style = self.style(8.5, color=QUIET, spaceBefore=8, spaceAfter=3)
        return Paragraph(f"<b>{self.safe(text.upper())}</b>", style)

    def boxed(self, text: str) -> Table:
        """A notice."""
        table = Table([[Paragraph(self.safe(text), self.style(9, color=WARN))]], colWidths=[WIDTH], spaceBefore=3)
        table.setStyle(TableStyle([("BACKGROUND", (0, 0), (-1, -1), HexColor("#fdf1df"))]))
        return table

    def sentence(self, sentence: Sentence) -> Paragraph:
        """A sentence with its references, and its doubts in red."""
        said = self.safe(sentence.text)
        if sentence.section is Section.IMPRESSION:
            said = f"<b>{said}</b>"
        if references := words.references_of(sentence):
            said += f' <font size="7.5" color="#1f5f99">[{self.safe(", ".join(references))}]</font>'
        if mark := words.mark_of(sentence):
            said += f' <font size="7.5" color="#5a6573">({mark})</font>'
        for doubt in words.doubts_of(sentence):
            said += f'<br/><font size="8" color="#a3231f">! {self.safe(doubt)}</font>'
        return Paragraph(said, self.style(10, spaceAfter=2.5))

    def table(self, rows: list[list[str]], shares: tuple[float, ...]) -> Table:
        """A table with a quiet head; text wraps in its cells."""
        head, body = self.style(8, color=QUIET), self.style(8.2)
        cells = [
            [Paragraph(self.safe(cell), head if number == 0 else body) for cell in row]
            for number, row in enumerate(rows)
        ]
        table = Table(cells, colWidths=[share * WIDTH for share in shares], repeatRows=1)
        table.setStyle(TableStyle([
            ("LINEBELOW", (0, 0), (-1, -1), 0.4, RULE), ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 2), ("RIGHTPADDING", (0, 0), (-1, -1), 5),
            ("TOPPADDING", (0, 0), (-1, -1), 2.5), ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
            ("BACKGROUND", (0, 0), (-1, 0), SHADE),
        ]))  # fmt: skip
        return table


@cache
def embedded_fonts() -> tuple[str, str]:
    """Names of the regular and bold font, embedded in the file."""
    regular, bold = font_files()
    pdfmetrics.registerFont(TTFont("Wetread", regular))
    pdfmetrics.registerFont(TTFont("Wetread-Bold", bold))
    pdfmetrics.registerFontFamily(
        "Wetread", normal="Wetread", bold="Wetread-Bold", italic="Wetread", boldItalic="Wetread-Bold"
    )
    return "Wetread", "Wetread-Bold"


def left_out_of(record: Record) -> list[LeftOut]:
    """What was not used, of the study and of its series."""
    return [*record.study.left_out, *(each for series in record.study.series for each in series.left_out)]
