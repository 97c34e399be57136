"""Who is who, without saying so: keyed hashes stand for patients and studies wherever a name is not needed.

A plain hash of a patient id can be undone by trying every id, so all keys are HMAC-SHA256 (RFC 2104) with a secret
that stays on the site. Two sites with two secrets give the same patient different keys, on purpose.
"""

from __future__ import annotations

import hmac
import os
import secrets
import unicodedata
from hashlib import sha256
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_io.errors import ArchiveUnavailable

KEY_LENGTH = 32  # hexadecimal digits, 128 bits
SECRET_BYTES = 32

# What people type when there is no patient id. Two patients called so are not one patient.
PLACEHOLDERS = frozenset(
    [
        "0",
        "ANON",
        "ANONYMISED",
        "ANONYMIZED",
        "ANONYMOUS",
        "N/A",
        "NA",
        "NONE",
        "NULL",
        "UNKNOWN",
        "UNKNOWN ID",
        "-",
        "?",
    ]
)


def patient_key(dataset: Dataset, secret: bytes) -> str:
    """The key of the patient of this dataset: the same for all of the patient's studies, 32 hexadecimal digits.

    Made from PatientID (0010,0020) and IssuerOfPatientID (0010,0021), spaces trimmed, Unicode composed (NFC). A patient
    id is only unique within its issuer (PS3.3 C.7.1.1), so an id with and one without an issuer are two patients.
    Without an id, or with a placeholder for one ("ANONYMOUS", "0"), the key is made from the Study Instance UID: such
    a study is never linked to another, because a missing prior is a nuisance and a wrong one a danger.
    """
    if not has_patient_id(dataset):
        return _key(secret, "patient of study", _text(dataset, "StudyInstanceUID"))
    return _key(secret, "patient", _text(dataset, "PatientID"), _text(dataset, "IssuerOfPatientID"))


def has_patient_id(dataset: Dataset) -> bool:
    """False without a PatientID, and for what is typed in its place: such an id is shared by many patients."""
    patient_id = _text(dataset, "PatientID")
    return bool(patient_id.strip("0")) and patient_id.upper() not in PLACEHOLDERS


def study_key(study_uid: str, secret: bytes) -> str:
    """The key of a study, 32 hexadecimal digits: its folder in the archive."""
    return _key(secret, "study", study_uid.strip())


def contradict(one: Dataset, other: Dataset) -> bool:
    """True when two datasets with one patient key cannot be of one patient: birth date or sex differ.

    Catches a patient id that was given out twice. What either of the two does not state contradicts nothing.
    """
    for keyword in ("PatientBirthDate", "PatientSex"):
        first, second = _text(one, keyword), _text(other, keyword)
        if first and second and first != second and "O" not in (first, second):  # sex O: other, or not known
            return True
    return False


def site_secret(home: Path) -> bytes:
    """The site's secret, 32 bytes, from `home/secret`; made there (mode 0600) when it does not exist.

    Safe when several processes start at once: the first one's secret is everyone's.
    Raises ArchiveUnavailable when the file cannot be read or written, or does not hold a secret.
    """
    path = home / "secret"
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        secret = bytes.fromhex(path.read_text(encoding="ascii"))
    except OSError as exc:
        raise ArchiveUnavailable(f"the secret file {path} cannot be read or made: {exc.strerror}") from exc
    except ValueError as exc:
        raise ArchiveUnavailable(f"the secret file {path} is damaged: it must hold 64 hexadecimal digits") from exc
    if len(secret) != SECRET_BYTES:
        raise ArchiveUnavailable(f"the secret file {path} is damaged: it must hold 64 hexadecimal digits")
    return secret


def _create(path: Path) -> None:
    part = path.with_name(f".secret-{secrets.token_hex(8)}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)  # unlike a rename, never replaces the secret that another process made meanwhile
        except FileExistsError:
            return
    finally:
        part.unlink()


def _key(secret: bytes, *words: str) -> str:
    message = "\0".join(unicodedata.normalize("NFC", word) for word in words)
    return hmac.new(secret, message.encode(), sha256).hexdigest()[:KEY_LENGTH]


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip(" \0")
