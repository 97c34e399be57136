from __future__ import annotations

import pytest
from pydicom import Dataset

from dicom_io.narrative import age_of


@pytest.mark.parametrize(
    ("stated", "years"),
    [("045Y", 45), ("011M", 0), ("012M", 1), ("035M", 2), ("051W", 0), ("160W", 3), ("364D", 0)],
)
def test_the_stated_age_in_whole_years(stated: str, years: int) -> None:
    dataset = Dataset()
    dataset.PatientAge = stated
    dataset.PatientBirthDate, dataset.StudyDate = "19000101", "20260101"  # what is stated comes first
    assert age_of(dataset) == years


@pytest.mark.parametrize(
    ("born", "made", "years"),
    [
        ("20100527", "20260526", 15),
        ("20100527", "20260527", 16),
        ("20260101", "20260101", 0),
        ("20270101", "20260101", None),  # before the birth
        ("", "20260101", None),
        ("20100527", "", None),
        ("18000101", "20260101", None),
    ],
)
def test_else_by_the_birth_date(born: str, made: str, years: int | None) -> None:
    dataset = Dataset()
    dataset.PatientBirthDate, dataset.StudyDate = born, made
    assert age_of(dataset) == years


def test_what_is_not_stated_is_not_known() -> None:
    assert age_of(Dataset()) is None
