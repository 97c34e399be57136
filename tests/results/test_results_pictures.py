"""Which pictures are shown, and that shapes lie where index space says."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from app.results.pictures import MOST_SLICES, Picture, pictures_of
from app.results.record import Record
from expert_models.finding import Box, Region


def only(picture: Picture, kind: str, target: str):
    return next(each for each in picture.shapes if each.kind == kind and target in each.targets)


def test_a_radiograph_stands_beside_its_prior_with_the_priors_own_region(dx_record: Record) -> None:
    current, prior = pictures_of(dx_record)
    assert (current.is_prior, prior.is_prior) == (False, True)
    assert "2024-03-05" in current.caption
    assert "2023-01-09" in prior.caption
    # the heart reaches from column 75 to 195 now, from 87 to 183 before: half a width either side of 135
    assert min(x for x, _ in only(current, "outline", "f1").paths[0]) == 75
    assert min(x for x, _ in only(prior, "outline", "f1").paths[0]) == 87
    assert only(prior, "outline", "f1").targets == ("f1", "c1")


def test_the_ratios_two_lines_are_drawn_once_at_the_pixels_centres(dx_record: Record) -> None:
    lines = [each for each in pictures_of(dx_record)[0].shapes if each.kind == "line"]
    assert [each.paths[0] for each in lines] == [((75.5, 160.5), (195.5, 160.5)), ((28.5, 180.5), (228.5, 180.5))]
    assert [each.label for each in lines] == [
        "Transverse cardiac diameter 120 px",
        "Internal transverse thoracic diameter 200 px",
    ]


def test_an_amount_read_from_two_lines_stands_beside_one_of_them(dx_record: Record) -> None:
    finding = dx_record.report.findings[0]
    ratio = replace(finding, measurements=tuple(each for each in finding.measurements if len(each.lines) == 2))
    alone = replace(dx_record, report=replace(dx_record.report, findings=(ratio,), sentences=(), comparisons=()))
    lines = [each for each in pictures_of(alone)[0].shapes if each.kind == "line"]
    assert len(lines) == 2
    assert sorted(each.short_label for each in lines) == ["", "0.60"]


def test_the_sides_are_those_of_the_image_header_and_unknown_for_the_prior(dx_record: Record) -> None:
    current, prior = pictures_of(dx_record)
    assert current.edges == ("R", "L", "H", "F")
    assert prior.edges == ("", "", "", "")


def test_a_ct_is_shown_at_its_findings_in_two_windows_and_a_coronal_plane(ct_record: Record) -> None:
    *axial, coronal = pictures_of(ct_record)
    assert [each.caption for each in axial] == [
        "Current: CT, slice 4 of 12, 2024-03-05",
        "Current: CT, slice 8 of 12, 2024-03-05",
    ]
    assert [name for name, _ in axial[0].images] == ["Lung", "Mediastinum"]
    assert axial[0].edges == ("R", "L", "A", "P")
    assert coronal.edges == ("R", "L", "H", "F")
    assert (coronal.width, coronal.height) == (64, round(12 * 2.5 / 0.8))


def test_the_windows_are_the_standards_linear_function(ct_record: Record) -> None:
    lung, mediastinum = (np.asarray(Image.open(BytesIO(png))) for _, png in pictures_of(ct_record)[0].images)
    # C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, for -850 HU and 40 HU
    assert lung[32, 20] == round(((-850 + 600.5) / 1499 + 0.5) * 255)
    assert lung[0, 0] == round(((40 + 600.5) / 1499 + 0.5) * 255)
    assert mediastinum[32, 20] == 0


def test_in_the_coronal_plane_the_head_is_up(ct_record: Record) -> None:
    *_, coronal = pictures_of(ct_record)
    # the nodule is centred on slice 7 of 12 going up: its middle lies (12 - 7.5) slices of 2.5 mm below the top
    ys = [y for _, y in only(coronal, "outline", "f3").paths[0]]
    assert (min(ys) + max(ys)) / 2 == pytest.approx((12 - 7.5) * 2.5 / 0.8, abs=0.1)


def test_a_mask_that_is_gone_leaves_its_box(dx_record: Record) -> None:
    dx_record.masks.kept.clear()
    assert {each.kind for each in pictures_of(dx_record)[0].shapes} == {"box", "line"}


def test_no_more_key_slices_than_fit(ct_record: Record) -> None:
    series = ct_record.study.series[0]
    finding = ct_record.report.findings[5]
    regions = tuple(Region(series.uid, Box((z, 1, 1), (z + 1, 5, 5)), series.source[z]) for z in range(12))
    findings = (*ct_record.report.findings[:5], replace(finding, regions=regions))
    record = replace(ct_record, report=replace(ct_record.report, findings=findings))
    assert len(pictures_of(record)) == MOST_SLICES + 1


def test_a_regions_own_sentence_can_light_it(ct_record: Record) -> None:
    series = ct_record.study.series[0]
    region = Region(series.uid, Box((7, 2, 2), (8, 9, 9)), series.source[7])
    first, *others = ct_record.report.sentences
    own = replace(first, grounding=replace(first.grounding, regions=(region,)))
    record = replace(ct_record, report=replace(ct_record.report, sentences=(own, *others)))
    assert any("s0" in shape.targets for picture in pictures_of(record) for shape in picture.shapes)


def test_without_findings_the_picture_is_shown_bare(bare_record: Record) -> None:
    (picture,) = pictures_of(bare_record)
    assert picture.shapes == ()
