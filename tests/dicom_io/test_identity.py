"""Keys: the same for the same patient, different for everyone else, and nothing to be read from them."""

from __future__ import annotations

import hashlib
import hmac
import multiprocessing
import stat
from pathlib import Path

import pytest

from dicom_io.errors import ArchiveUnavailable
from dicom_io.identity import contradict, patient_key, site_secret, study_key

SECRET = b"s" * 32


def test_a_key_is_an_hmac_of_the_id_and_its_issuer(make) -> None:
    dataset = make.dx(PatientID=" P-1 ", IssuerOfPatientID="CLINIC")
    expected = hmac.new(SECRET, b"patient\0P-1\0CLINIC", hashlib.sha256).hexdigest()[:32]
    assert patient_key(dataset, SECRET) == expected
    assert "P-1" not in expected


def test_two_studies_of_a_patient_share_the_key_and_two_patients_or_sites_do_not(make) -> None:
    first, second = make.dx(StudyInstanceUID="1.2.3"), make.dx(StudyInstanceUID="1.2.4")
    assert patient_key(first, SECRET) == patient_key(second, SECRET)
    assert patient_key(first, SECRET) != patient_key(make.dx(PatientID="P-2"), SECRET)
    assert patient_key(first, SECRET) != patient_key(make.dx(IssuerOfPatientID="ELSEWHERE"), SECRET)
    assert patient_key(first, SECRET) != patient_key(first, b"t" * 32)


@pytest.mark.parametrize("patient_id", [None, "", "  ", "0", "000000", "ANONYMOUS", "anonymized", "Unknown"])
def test_without_a_real_id_no_two_studies_are_linked(make, patient_id: str | None) -> None:
    first = make.dx(PatientID=patient_id, StudyInstanceUID="1.2.3")
    second = make.dx(PatientID=patient_id, StudyInstanceUID="1.2.4")
    assert patient_key(first, SECRET) != patient_key(second, SECRET)
    assert patient_key(first, SECRET) == patient_key(make.dx(PatientID="", StudyInstanceUID="1.2.3"), SECRET)


def test_the_same_id_in_two_unicode_spellings_is_one_patient(make) -> None:
    composed = make.dx(SpecificCharacterSet="ISO_IR 192", PatientID="M\u00fcller-1")
    decomposed = make.dx(SpecificCharacterSet="ISO_IR 192", PatientID="Mu\u0308ller-1")
    assert patient_key(composed, SECRET) == patient_key(decomposed, SECRET)


def test_a_birth_date_or_sex_that_differs_contradicts_and_one_that_is_missing_does_not(make) -> None:
    jane = make.dx(PatientBirthDate="19600101", PatientSex="F")
    assert contradict(jane, make.dx(PatientBirthDate="19600102", PatientSex="F"))
    assert contradict(jane, make.dx(PatientBirthDate="19600101", PatientSex="M"))
    assert not contradict(jane, make.dx(PatientBirthDate="19600101", PatientSex="O"))
    assert not contradict(jane, make.dx())


def test_the_study_key_shows_nothing_of_the_uid() -> None:
    uid = "1.2.840.113619.2.5.1762583153"
    assert uid not in study_key(uid, SECRET)
    assert study_key(uid, SECRET) == study_key(f"{uid} ", SECRET)
    assert study_key(uid, SECRET) != study_key(uid, b"t" * 32)


def test_the_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    secret = site_secret(tmp_path / "home")
    assert len(secret) == 32
    assert site_secret(tmp_path / "home") == secret
    assert stat.S_IMODE((tmp_path / "home" / "secret").stat().st_mode) == 0o600
    assert [each.name for each in (tmp_path / "home").iterdir()] == ["secret"]


def test_processes_that_start_together_agree_on_one_secret(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert len(set(pool.map(site_secret, [tmp_path] * 3))) == 1


@pytest.mark.parametrize("content", ["", "abcd", "not hexadecimal"])
def test_a_damaged_secret_is_an_error_in_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content)
    with pytest.raises(ArchiveUnavailable, match="64 hexadecimal digits"):
        site_secret(tmp_path)


def test_a_home_that_cannot_be_made_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArchiveUnavailable, match="cannot be read or made"):
        site_secret(tmp_path / "file" / "home")
