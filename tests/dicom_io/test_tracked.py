"""What another maker's report of measurements follows over time: read, kept in the archive, placed in the images."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from dicom_io.archive import FolderArchive
from dicom_io.study import Tracked
from dicom_io.tracked import marks_from_json, marks_of, marks_to_json


def coded(make, kind: str, code: tuple[str, str, str], **values) -> Dataset:
    return make.item(kind, ConceptNameCodeSequence=[make.code(*code)], **values)


def outline(make, image_uid: str, *points: float) -> Dataset:
    """SCOORD with the image it is drawn on, as TID 1410 has it."""
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", image_uid
    image = make.item("IMAGE", ReferencedSOPSequence=[reference])
    region = coded(make, "SCOORD", ("111030", "DCM", "Image Region"), ContentSequence=[image])
    region.GraphicType, region.GraphicData = "POLYLINE", list(points)
    return region


def measured(make, uid: str, *items: Dataset, side: str = "24028007") -> Dataset:
    """A measurement group of a nodule on the right."""
    laterality = coded(
        make, "CODE", ("272741003", "SCT", "Laterality"), ConceptCodeSequence=[make.code(side, "SCT", "Right")]
    )
    site = coded(
        make,
        "CODE",
        ("363698007", "SCT", "Finding Site"),
        ConceptCodeSequence=[make.code("39607008", "SCT", "Lung")],
        ContentSequence=[laterality],
    )
    tracking = coded(make, "UIDREF", ("112040", "DCM", "Tracking Unique Identifier"), UID=uid)
    nodule = make.code("27925004", "SCT", "Nodule")
    finding = coded(make, "CODE", ("121071", "DCM", "Finding"), ConceptCodeSequence=[nodule])
    parts = [tracking, finding, site, *items]
    return coded(make, "CONTAINER", ("125007", "DCM", "Measurement Group"), ContentSequence=parts)


def report(make, *groups: Dataset, **values) -> Dataset:
    """A Comprehensive 3D SR of TID 1500 with these groups under Imaging Measurements."""
    measurements = coded(make, "CONTAINER", ("126010", "DCM", "Imaging Measurements"), ContentSequence=list(groups))
    return make.dataset(
        Comprehensive3DSRStorage,
        Modality="SR",
        ValueType="CONTAINER",
        ConceptNameCodeSequence=[make.code("126000", "DCM", "Imaging Measurement Report")],
        ContentSequence=[measurements],
        **values,
    )


def test_an_outline_is_placed_in_the_slice_that_it_was_drawn_on(make, tmp_path: Path) -> None:
    slices = make.ct_series([0.0, 1.0, 2.0])
    # between the middles of the pixels 2 to 4 across and 1 to 2 down, on the slice at 1 mm
    group = measured(make, "1.2.3", outline(make, slices[1].SOPInstanceUID, 2.5, 1.5, 4.5, 1.5, 4.5, 2.5, 2.5, 2.5))
    archive = FolderArchive(tmp_path, b"s" * 32)
    archive.ingest([("sr", make.encode(report(make, group))), *(("ct", make.encode(each)) for each in slices)])
    study = archive.load(slices[0].StudyInstanceUID)
    (series,) = study.series
    assert study.tracked == (Tracked("1.2.3", ("27925004", "SCT"), "right", series.uid, ((1, 1, 2), (2, 3, 5))),)
    assert archive.study_hash(study.uid) == only_images(make, slices, tmp_path), "no new job for a report that came"


def only_images(make, slices: list[Dataset], tmp_path: Path) -> str:
    other = FolderArchive(tmp_path / "other", b"s" * 32)
    other.ingest([("ct", make.encode(each)) for each in slices])
    return other.study_hash(slices[0].StudyInstanceUID)


def test_points_in_the_patient_are_placed_by_the_frame_of_reference(make, assembled, tmp_path: Path) -> None:
    slices = make.ct_series([0.0, 1.0, 2.0])
    (series,) = assembled(*slices).series
    first, last = series.volume.geometry.to_patient([[1, 2, 3], [2, 3, 4]])
    point = coded(make, "SCOORD3D", ("111030", "DCM", "Image Region"))
    point.GraphicType, point.GraphicData = "POLYLINE", [*first.tolist(), *last.tolist()]
    point.ReferencedFrameOfReferenceUID = series.volume.geometry.frame_of_reference_uid
    archive = FolderArchive(tmp_path, b"s" * 32)
    sources = [make.encode(each) for each in (*slices, report(make, measured(make, "1.2.4", point)))]
    archive.ingest([(str(number), data) for number, data in enumerate(sources)])
    (tracked,) = archive.load(slices[0].StudyInstanceUID).tracked
    assert tracked.box_index == ((1, 2, 3), (3, 4, 5))


def test_a_group_without_coordinates_has_a_side_and_no_place(make) -> None:
    (mark,) = marks_of(report(make, measured(make, "1.2.5", side="7771000")))
    assert (mark.uid, mark.side, mark.points) == ("1.2.5", "left", ())


def test_two_groups_of_one_thing_are_one_mark(make) -> None:
    one, other = outline(make, "9.1", 0.5, 0.5), outline(make, "9.2", 4.5, 2.5)
    (mark,) = marks_of(report(make, measured(make, "1.2.6", one), measured(make, "1.2.6", other)))
    assert mark.points == (("9.1", 0.0, 0.0), ("9.2", 2.0, 4.0))
    assert marks_from_json(marks_to_json([mark])) == (mark,)


@pytest.mark.parametrize("uid", ["", "not a uid", "1." * 40 + "1"])
def test_what_is_not_a_uid_follows_nothing(make, uid: str) -> None:
    assert marks_of(report(make, measured(make, uid))) == ()


def test_an_image_follows_nothing(make) -> None:
    assert marks_of(make.dx()) == ()
