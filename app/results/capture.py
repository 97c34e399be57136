"""Key images as DICOM Secondary Captures (PS3.3 A.8.1), regions burned in, for archives that show nothing else.

The picture keeps its grey values wherever nothing is drawn; a strip above it says whether it is a draft, one below
what it shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.sr.codedict import codes as dicom_codes
from pydicom.uid import SecondaryCaptureImageStorage

from app.results.coded import concept
from app.results.fonts import font_files
from app.results.instance import file_bytes, new_instance, references
from app.results.outlines import Point
from app.results.pictures import LONGEST_SIDE, Picture, pictures_of
from app.results.record import Record
from app.results.shapes import Shape
from app.results.words import PRODUCT, signed_by
from expert_models.finding import Code
from medmllm.report import Report

MOST_CAPTURES = 4
SMOOTH = 2  # what is drawn is drawn this much larger, then shrunk, for smooth strokes
BANNER = "AI draft, not verified"
BANNER_TONE, STRIP_TONE, CAPTION_TONE = "#b3261e", "#11151a", "#cdd5de"
SOURCE_IMAGE = dicom_codes.DCM.SourceImageForImageProcessingOperation  # CID 7202


def captures(record: Record) -> Iterator[tuple[str, bytes]]:
    """(file name, DICOM file bytes) of each key image. Raises ResultRefused when no original image is at hand."""
    for number, picture in enumerate(key_pictures(record), start=1):
        yield f"report-capture-{number}.dcm", secondary_capture(record, picture, number)


def key_pictures(record: Record) -> list[Picture]:
    """At most MOST_CAPTURES of the study's pictures: those that show a finding, else an organ, else the first."""
    current = [each for each in pictures_of(record) if not each.is_prior]
    for wanted in (
        [each for each in current if any(not shape.is_organ for shape in each.shapes)],
        [each for each in current if each.shapes],
    ):
        if wanted:
            return wanted[:MOST_CAPTURES]
    return current[:1]


def secondary_capture(record: Record, picture: Picture, number: int) -> bytes:
    """One picture as an RGB Secondary Capture that refers to the images it was made from."""
    image = burned_in(picture, record.report)
    made = new_instance(record, SecondaryCaptureImageStorage, "capture", "OT", "key images", number)
    made.Laterality = None  # of a paired body part, which a chest is not (C.7.3.1)
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = made.ContentDate, made.ContentTime
    _, right, _, bottom = picture.edges
    made.PatientOrientation = [right, bottom] if right and bottom else None
    made.BurnedInAnnotation = "YES"
    window = picture.images[0][0]
    made.DerivationDescription = f"{PRODUCT}: findings, captions and state drawn into the picture ({window})"
    made.SourceImageSequence = references(record, picture.sources)
    for item in made.SourceImageSequence:
        item.PurposeOfReferenceCodeSequence = [
            concept(Code(SOURCE_IMAGE.value, SOURCE_IMAGE.scheme_designator, SOURCE_IMAGE.meaning))
        ]
    tell_losses(made, [record.sources[uid] for uid in picture.sources if uid in record.sources])
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.Rows, made.Columns = image.height, image.width
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    pixels = image.tobytes()
    made.PixelData = pixels + b"\0" * (len(pixels) % 2)
    return file_bytes(made)


def tell_losses(made: Dataset, sources: list[Dataset]) -> None:
    """An image once compressed with loss stays so in everything derived from it (PS3.3 C.7.6.1.1.5)."""
    lossy = next((each for each in sources if each.get("LossyImageCompression") == "01"), None)
    made.LossyImageCompression = "00" if lossy is None else "01"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if lossy is not None and keyword in lossy:
            made[keyword] = lossy[keyword]


def burned_in(picture: Picture, report: Report) -> Image.Image:
    """The picture in its first window as RGB, LONGEST_SIDE or longer, with shapes, labels and strips drawn."""
    grey: Image.Image = Image.open(BytesIO(picture.images[0][1]))
    zoom = max(1.0, LONGEST_SIDE / max(grey.size))
    if zoom > 1:
        size = (round(grey.width * zoom), round(grey.height * zoom))
        grey = grey.resize(size, Image.Resampling.BICUBIC)
    image = grey.convert("RGBA")
    image.alpha_composite(overlay(picture, image.size, zoom))
    return with_strips(image.convert("RGB"), picture, report)


def overlay(picture: Picture, size: tuple[int, int], zoom: float) -> Image.Image:
    """Shapes, labels and the patient's directions on a clear ground of `size`; organs below, findings above."""
    scale = zoom * SMOOTH
    ground = Image.new("RGBA", (size[0] * SMOOTH, size[1] * SMOOTH))
    pen = ImageDraw.Draw(ground)
    stroke = max(2, max(ground.size) // 500)
    for shape in sorted(picture.shapes, key=lambda each: not each.is_organ):
        draw(pen, shape, scale, stroke if not shape.is_organ else max(1, stroke // 2))
    letters = ImageFont.truetype(str(font_files()[1]), max(ground.size) // 40)
    write_labels(pen, picture.shapes, scale, letters, ground.size)
    left, right, top, bottom = picture.edges
    wide, high = ground.size
    margin = high // 60
    for text, place, anchor in (
        (left, (margin, high / 2), "lm"),
        (right, (wide - margin, high / 2), "rm"),
        (top, (wide / 2, margin), "ma"),
        (bottom, (wide / 2, high - margin), "md"),
    ):
        pen.text(place, text, fill="#ffffff", font=letters, anchor=anchor, stroke_width=stroke, stroke_fill="#000000")
    return ground.resize(size, Image.Resampling.LANCZOS)


def draw(pen: ImageDraw.ImageDraw, shape: Shape, scale: float, stroke: int) -> None:
    """The shape's strokes; a box that stands for a place without an outline is drawn in dashes."""
    if shape.kind == "line":
        for ends in shape.strokes:
            pen.line([(x * scale, y * scale) for x, y in ends], fill=shape.tone, width=stroke)
        return
    for path in shape.paths:
        points = [(x * scale, y * scale) for x, y in (*path, path[0])]
        if shape.kind == "box":
            for start, stop in pairwise(points):
                dashes(pen, start, stop, shape.tone, stroke)
        else:
            pen.line(points, fill=shape.tone, width=stroke, joint="curve")


def dashes(pen: ImageDraw.ImageDraw, start: Point, stop: Point, tone: str, stroke: int) -> None:
    """A dashed straight line."""
    (x0, y0), (x1, y1) = start, stop
    count = max(1, round((abs(x1 - x0) + abs(y1 - y0)) / (8 * stroke)))
    for number in range(count):
        begin, end = number / count, (number + 0.6) / count
        ends = [(x0 + part * (x1 - x0), y0 + part * (y1 - y0)) for part in (begin, end)]
        pen.line(ends, fill=tone, width=stroke)


def write_labels(
    pen: ImageDraw.ImageDraw,
    shapes: tuple[Shape, ...],
    scale: float,
    letters: ImageFont.FreeTypeFont,
    size: tuple[int, int],
) -> None:
    """Names above what was found, amounts below their lines, none upon another, all inside the picture."""
    high = letters.size * 1.15
    taken: list[tuple[float, float, float]] = []  # left, right and middle of each label that is written
    for shape in shapes:
        if shape.is_organ and shape.kind != "line":
            continue
        x, y, down = beside(shape, scale, 0.8 * high)
        half = pen.textlength(shape.short_label, font=letters) / 2 + 4
        x = min(max(x, half), size[0] - half)
        y = min(max(y, high), size[1] - high)
        while any(x - half < right and left < x + half and abs(y - middle) < high for left, right, middle in taken):
            y += down * high / 4
        taken.append((x - half, x + half, y))
        rim = max(2, int(letters.size) // 10)
        pen.text(
            (x, y), shape.short_label, fill=shape.tone, font=letters, anchor="mm", stroke_width=rim, stroke_fill="#000"
        )


def beside(shape: Shape, scale: float, gap: float) -> tuple[float, float, int]:
    """Where a label's middle stands, and which way it gives way: a line's below it, any other shape's above it."""
    if shape.kind == "line":
        (x0, y0), (x1, y1) = shape.paths[0]
        return (x0 + x1) / 2 * scale, max(y0, y1) * scale + gap, 1
    x, y = shape.place
    return x * scale, y * scale - gap, -1


def with_strips(image: Image.Image, picture: Picture, report: Report) -> Image.Image:
    """The picture between a strip with its state, while it is a draft, and one with its caption and who has signed."""
    high = max(image.size) // 24
    above = high if report.is_draft else 0
    whole = Image.new("RGB", (image.width, image.height + high + above), STRIP_TONE)
    whole.paste(image, (0, above))
    pen = ImageDraw.Draw(whole)
    if report.is_draft:
        pen.rectangle((0, 0, image.width, above - 1), fill=BANNER_TONE)
        fitted(pen, BANNER, above / 2, high, image.width, "#ffffff")
    caption = picture.caption if report.signature is None else f"{picture.caption}. {signed_by(report.signature)}"
    fitted(pen, caption, whole.height - high / 2, high, image.width, CAPTION_TONE)
    return whole


def fitted(pen: ImageDraw.ImageDraw, text: str, middle: float, high: int, wide: int, tone: str) -> None:
    """A line of text in a strip, smaller where it would not fit."""
    bold, size = str(font_files()[1]), 0.5 * high
    needed = pen.textlength(text, font=ImageFont.truetype(bold, size))
    size *= min(1.0, (wide - high) / needed)
    pen.text((high / 2, middle), text, fill=tone, font=ImageFont.truetype(bold, size), anchor="lm")
