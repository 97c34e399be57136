"""Small studies with everything a result can hold: a CT with a nodule, and a radiograph with a prior."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from app.results.record import Record
from dicom_io.study import Geometry, LeftOut, Modality, Request, Series, Study, Volume
from expert_models import codes
from expert_models.finding import (
    Attribute,
    Box,
    Change,
    Comparison,
    ExpertTag,
    Finding,
    Line,
    Measurement,
    Presence,
    Region,
    Side,
)
from medmllm.report import Check, CheckKind, Grounding, Report, Section, Sentence, Signature, Verdict
from rag.evidence import Citation, Evidence

INDICATION = "Dyspnée & cough <script>alert('owned')</script>"


class MemoryMasks:
    """Masks kept in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, np.ndarray] = {}

    def save(self, mask: np.ndarray) -> str:
        key = hashlib.sha256(repr(mask.shape).encode() + np.packbits(mask).tobytes()).hexdigest()
        self.kept[key] = mask
        return key

    def load(self, key: str) -> np.ndarray:
        return self.kept[key]


def uid(*parts: object) -> str:
    """A valid UID for a test object."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:12]
    return f"2.25.{int.from_bytes(digest, 'big')}"


def header(modality: str, study_uid: str, series_uid: str, number: int) -> Dataset:
    """The patient, study, series and equipment modules of a source image."""
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName, image.PatientID = "Müller^Zoë", "P-17"
    image.PatientBirthDate, image.PatientSex = "19600229", "F"
    image.StudyInstanceUID, image.SeriesInstanceUID = study_uid, series_uid
    image.SOPInstanceUID = uid(series_uid, number)
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20240305"
    image.StudyTime = image.SeriesTime = image.AcquisitionTime = image.ContentTime = "101500"
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "S1", "A-2024-7", "House^G"
    image.Modality, image.SeriesNumber, image.InstanceNumber = modality, 1, number
    image.Manufacturer, image.ManufacturerModelName = "Maker", "Model 1"
    image.DeviceSerialNumber, image.SoftwareVersions = "42", "1.0"
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def ct_image(study_uid: str, series_uid: str, voxels: np.ndarray, number: int) -> Dataset:
    """One slice of the CT of `ct_record`: 0.8 mm pixels, 2.5 mm apart, going up."""
    image = header("CT", study_uid, series_uid, number)
    image.SOPClassUID = CTImageStorage
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = uid(series_uid, "frame"), ""
    image.BodyPartExamined = "CHEST"
    image.PatientPosition, image.KVP, image.AcquisitionNumber = "HFS", "120", 1
    image.ImagePositionPatient = [-20.0, -30.0, 100.0 + 2.5 * (number - 1)]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.SliceThickness = [0.8, 0.8], 2.5
    image.Rows, image.Columns = voxels.shape
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = 0, 1, "HU"
    image.PixelData = voxels.astype("<i2").tobytes()
    return image


def projection(modality: Modality, study_uid: str, series_uid: str, pixels: np.ndarray) -> Dataset:
    """A DX or CR image of float pixels in [0, 1]."""
    image = header(str(modality), study_uid, series_uid, 1)
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PatientOrientation = ["L", "F"]
    image.ViewPosition, image.BodyPartExamined, image.KVP = "PA", "CHEST", "110"
    if modality is Modality.DX:
        image.SOPClassUID = DigitalXRayImageStorageForPresentation
        image.PresentationIntentType, image.ImageLaterality = "FOR PRESENTATION", "U"
        image.ImagerPixelSpacing, image.PixelSpacing = [1.4, 1.4], [1.4, 1.4]
        image.PixelIntensityRelationship, image.PixelIntensityRelationshipSign = "LOG", -1
        image.RescaleIntercept, image.RescaleSlope, image.RescaleType = 0, 1, "US"
        image.PresentationLUTShape, image.LossyImageCompression = "IDENTITY", "00"
        image.BurnedInAnnotation = "NO"
        image.WindowCenter, image.WindowWidth = 2048, 4096
        region_code = Dataset()
        region_code.CodeValue, region_code.CodingSchemeDesignator = "816094009", "SCT"
        region_code.CodeMeaning = "Chest"
        image.AnatomicRegionSequence, image.AcquisitionContextSequence = [region_code], []
        image.DetectorType, image.PositionerType = "DIRECT", ""
    else:
        image.SOPClassUID = ComputedRadiographyImageStorage
        image.PixelSpacing, image.PlateType = [1.4, 1.4], ""
    image.PixelData = np.round(pixels * 4095).astype("<u2").tobytes()
    return image


def region(masks: MemoryMasks, series: Series, whole: np.ndarray, best: int = 0) -> Region:
    """The region of a whole-series mask: its tight box and the mask cut to it."""
    where = np.argwhere(whole)
    start, stop = where.min(axis=0), where.max(axis=0) + 1
    box = Box(tuple(start.tolist()), tuple(stop.tolist()))
    return Region(series.uid, box, series.source[best], masks.save(whole[box.slices]))


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: tuple[float, ...]) -> np.ndarray:
    """An ellipsoid of voxels."""
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius, strict=True)) <= 1


EXPERT = ExpertTag("chest-ct-nodules", "1.2.0", "ab" * 32)
EVIDENCE = Evidence(
    "e1",
    "Solid nodules of 6 to 8 mm are followed after 6 to 12 months.",
    Citation(
        "fleischner",
        "Guidelines for <b>nodules</b>",
        "MacMahon H, et al.",
        2017,
        "10.1148/radiol.2017161659",
        0,
        60,
        "Radiology",
    ),
    0.71,
    ("f3",),
)


@pytest.fixture
def ct_record() -> Record:
    """A CT with a nodule."""
    return make_ct_record()


def make_ct_record() -> Record:
    """A CT of 12 slices of 64 x 64 with two lungs, a nodule at a known place, and an expert that failed."""
    study_uid, series_uid = uid("ct-study"), uid("ct-series")
    shape = (12, 64, 64)
    right, left = ball(shape, (6, 32, 18), (6, 22, 12)), ball(shape, (6, 32, 46), (6, 22, 12))
    nodule = ball(shape, (7, 28, 45), (1.5, 4, 3))
    voxels = np.full(shape, 40, dtype=np.int16)
    voxels[right | left] = -850
    voxels[nodule] = 20
    images = [ct_image(study_uid, series_uid, voxels[i], i + 1) for i in range(12)]
    affine = np.array([[0, 0, 0.8, -20], [0, 0.8, 0, -30], [2.5, 0, 0, 100], [0, 0, 0, 1.0]])
    series = Series(
        series_uid,
        Modality.CT,
        Volume(voxels, Geometry(affine, uid(series_uid, "frame"))),
        tuple(image.SOPInstanceUID for image in images),
        left_out=(LeftOut("slice 13", "it is cut off"),),
    )
    masks = MemoryMasks()
    line = Line(series_uid, (7.0, 24.0, 45.0), (7.0, 32.0, 45.0), series.source[7])
    lung = ExpertTag("chest-ct-lungs", "2.0.1")
    findings = (
        Finding(
            "f1",
            codes.LUNG,
            Presence.PRESENT,
            lung,
            side=Side.RIGHT,
            regions=(region(masks, series, right, 6),),
            measurements=(Measurement(codes.VOLUME, 2310.4, codes.MILLILITER),),
        ),
        Finding("f2", codes.LUNG, Presence.PRESENT, lung, side=Side.LEFT, regions=(region(masks, series, left, 6),)),
        Finding(
            "f3",
            codes.LUNG_NODULE,
            Presence.PRESENT,
            EXPERT,
            0.87,
            Side.LEFT,
            codes.UPPER_LOBE,
            (region(masks, series, nodule, 7),),
            (
                Measurement(codes.LONG_AXIS, 6.4, codes.MILLIMETER, (line,)),
                Measurement(codes.MEAN_ATTENUATION, 20.0, codes.HOUNSFIELD_UNIT),
            ),
            attributes=(
                Attribute(codes.ATTENUATION_TYPE, codes.SOLID, 0.93),
                Attribute(codes.BORDER_SHAPE, codes.SPICULATED),
            ),
        ),
        Finding("f4", codes.PLEURAL_EFFUSION, Presence.NOT_ASSESSED, EXPERT, reason="The expert ran out of memory."),
        Finding("f5", codes.PNEUMOTHORAX, Presence.ABSENT, EXPERT, 0.03),
        Finding(
            "f6",
            codes.LUNG_NODULE,
            Presence.INDETERMINATE,
            EXPERT,
            0.41,
            Side.RIGHT,
            regions=(Region(series_uid, Box((3, 30, 15), (5, 34, 20)), series.source[3]),),
        ),
    )
    sentences = (
        Sentence(INDICATION, Section.INDICATION, Grounding(attributes=("ReasonForTheRequestedProcedure",))),
        Sentence("Chest CT of 12 slices.", Section.TECHNIQUE, Grounding(attributes=("Modality",))),
        Sentence("No prior study was available.", Section.COMPARISON, Grounding(attributes=("StudyDate",))),
        Sentence("A solid nodule of 6.4 mm lies in the left upper lobe.", Section.FINDINGS, Grounding(("f3",))),
        Sentence("The right lung holds 2310 mL.", Section.FINDINGS, Grounding(("f1",))),
        Sentence(
            "There is an effusion on the right.",
            Section.FINDINGS,
            Grounding(("f4",)),
            (Check(CheckKind.UNSUPPORTED, Verdict.FAILED, "no finding says so"),),
        ),
        Sentence("Everything else is fine.", Section.FINDINGS),
        Sentence("Follow the left nodule after 6 to 12 months.", Section.IMPRESSION, Grounding(("f3",), (), ("e1",))),
    )
    study = Study(
        study_uid,
        "key",
        datetime(2024, 3, 5, 10, 15),
        (series,),
        Request(INDICATION, "CT chest", "A-2024-7"),
        left_out=(LeftOut("notes.txt", "it is not DICOM"),),
    )
    report = Report(study_uid, sentences, findings, (), (EVIDENCE,), "template", ("The effusion expert is down.",))
    return Record(report, study, masks, {image.SOPInstanceUID: image for image in images})


def chest(width: float, masks: MemoryMasks, study_uid: str, modality: Modality) -> tuple[Series, Dataset, Finding]:
    """A drawn radiograph of 256 x 256 whose heart is `width` pixels wide in a chest of 200, with its finding."""
    series_uid = uid(study_uid, "series")
    shape = (1, 256, 256)
    lungs = ball(shape, (0, 120, 75), (1, 90, 47)) | ball(shape, (0, 120, 181), (1, 90, 47))
    heart = ball(shape, (0, 160, 135), (1, 40, width / 2))
    pixels = np.full(shape, 0.7, dtype=np.float32)
    pixels[lungs] = 0.25
    pixels[heart] = 0.85
    image = projection(modality, study_uid, series_uid, pixels[0])
    geometry = Geometry(np.diag([1.0, 1.4, 1.4, 1.0]), is_calibrated=False)
    series = Series(series_uid, modality, Volume(pixels, geometry), (image.SOPInstanceUID,), "PA")
    half = width / 2
    heart_line = Line(series_uid, (0, 160, 135 - half), (0, 160, 135 + half), image.SOPInstanceUID)
    chest_line = Line(series_uid, (0, 180, 28), (0, 180, 228), image.SOPInstanceUID)
    finding = Finding(
        "f1",
        codes.CARDIOMEGALY,
        Presence.PRESENT if width > 100 else Presence.ABSENT,
        ExpertTag("chest-xray-anatomy", "0.3.0", "cd" * 32),
        0.92 if width > 100 else 0.2,
        site=codes.HEART,
        regions=(region(masks, series, heart),),
        measurements=(
            Measurement(codes.CARDIOTHORACIC_RATIO, width / 200, codes.RATIO, (heart_line, chest_line)),
            Measurement(codes.CARDIAC_DIAMETER, width, codes.PIXEL, (heart_line,)),
            Measurement(codes.THORACIC_DIAMETER, 200, codes.PIXEL, (chest_line,)),
        ),
    )
    return series, image, finding


@pytest.fixture(params=[Modality.DX, Modality.CR], ids=["DX", "CR"])
def xray_record(request: pytest.FixtureRequest) -> Record:
    """A PA radiograph whose heart is 120 of 200 pixels wide, with a prior where it was 96."""
    return make_xray_record(request.param)


@pytest.fixture
def dx_record() -> Record:
    """The same, DX only."""
    return make_xray_record(Modality.DX)


def make_xray_record(modality: Modality) -> Record:
    masks = MemoryMasks()
    study_uid, prior_uid = uid("xray-study", modality), uid("xray-prior", modality)
    series, image, finding = chest(120, masks, study_uid, modality)
    prior_series, _, prior_finding = chest(96, masks, prior_uid, modality)
    prior = Study(prior_uid, "key", datetime(2023, 1, 9), (prior_series,))
    study = Study(
        study_uid,
        "key",
        datetime(2024, 3, 5, 10, 15),
        (series,),
        Request(INDICATION, "Chest PA", "A-2024-7"),
        priors=(prior,),
    )
    comparison = Comparison("c1", Change.LARGER, prior_uid, uid("tracked heart"), "f1", prior_finding, 0.25)
    sentences = (
        Sentence("One PA radiograph of the chest.", Section.TECHNIQUE, Grounding(attributes=("ViewPosition",))),
        Sentence("The heart is enlarged, cardiothoracic ratio 0.60.", Section.FINDINGS, Grounding(("f1",))),
        Sentence("It has grown since the prior.", Section.FINDINGS, Grounding((), ("c1",))),
        Sentence("Cardiomegaly.", Section.IMPRESSION, Grounding(("f1",))),
    )
    report = Report(study_uid, sentences, (finding,), (comparison,), (), "template")
    return Record(report, study, masks, {image.SOPInstanceUID: image})


@pytest.fixture
def bare_record() -> Record:
    """A study without findings."""
    return make_bare_record()


def make_bare_record() -> Record:
    """A radiograph on which nothing was found, by no expert, without literature."""
    masks = MemoryMasks()
    study_uid = uid("bare")
    series, image, _ = chest(90, masks, study_uid, Modality.DX)
    sentence = Sentence("The study was not assessed.", Section.IMPRESSION, Grounding(attributes=("Modality",)))
    report = Report(study_uid, (sentence,), (), (), (), "template", ("No expert was available.",))
    return Record(report, Study(study_uid, "key", None, (series,)), masks, {image.SOPInstanceUID: image})


SIGNED_AT = datetime(2024, 3, 5, 14, 30, tzinfo=timezone(timedelta(hours=1)))
SIGNATURE = Signature("Dr. Jóna Doe", "Sample Hospital", SIGNED_AT)


def make_signed(record: Record) -> Record:
    """The same report after a person has added a sentence, changed the last one, and signed."""
    *kept, last = record.report.sentences
    added = Sentence("A healed rib fracture.", Section.FINDINGS, is_edited=True)
    failed = (Check(CheckKind.UNSUPPORTED, Verdict.FAILED, "cites nothing"),)
    changed = replace(last, text="Nothing needs doing.", checks=failed, is_edited=True)
    report = replace(record.report, sentences=(*kept, added, changed), is_draft=False, signature=SIGNATURE)
    return replace(record, report=report, earlier=(*record.earlier, record.report))


@pytest.fixture
def sign() -> Callable[[Record], Record]:
    """Edits and signs a record's report."""
    return make_signed


@pytest.fixture
def errors_of() -> Callable[[Path], list[str]]:
    """What dciodvfy calls an error in a DICOM file."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")

    def errors(path: Path) -> list[str]:
        told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
        return [line for line in told.splitlines() if line.startswith("Error")]

    return errors


@pytest.fixture
def dicom_file(tmp_path: Path):
    """Writes DICOM bytes to a file, for tools that read files."""

    def write(body: bytes) -> Path:
        path = tmp_path / f"{hashlib.sha256(body).hexdigest()[:12]}.dcm"
        path.write_bytes(body)
        return path

    return write
