"""Studies kept in a folder, by content: the same file ingested twice, or by two processes at once, is kept once.

    <folder>/<patient key>/<study key>/<sha256>.dcm         one DICOM instance, its bytes as they came
                                       <sha256>.left.json   an instance of the study that is not used, and why
                                       <sha256>.row.json    a line of the list of studies
                                       <sha256>.marks.json  what a report of measurements follows over time
    <folder>/incoming/                                      files being written

Every file is written under a passing name, synced to the disk and then renamed, so a file with its final name is
whole. No locks: names follow from contents, so writers can only ever write the same thing. The keys are keyed hashes
(identity.py); no name, id or UID is part of a path.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from dicom_io.assemble import Instance, assemble, label
from dicom_io.errors import ArchiveUnavailable, NoStudy, Unreadable
from dicom_io.identity import contradict, patient_key, study_key
from dicom_io.narrative import acquired_on
from dicom_io.read import Found, Source, find, parse, parse_file, quiet, text
from dicom_io.screen import is_image, modality_of, refusal
from dicom_io.study import LeftOut, Modality, Study
from dicom_io.tracked import Mark, marks_from_json, marks_of, marks_to_json, placed

STALE_SECONDS = 24 * 3600  # what a killed ingest left in incoming/ for so long is removed
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Ingested:
    """What an ingest did: the studies with a usable image, in order of arrival, and all that was left out."""

    study_uids: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One line of the list of studies."""

    uid: str
    patient_key: str
    acquired_on: datetime | None
    modalities: tuple[Modality, ...]
    instances: int


class Disk:
    """How the archive writes. A test that needs a full disk brings its own."""

    def write(self, path: Path, data: bytes) -> None:
        """Make a new file with this content and sync it to the disk. Raises OSError."""
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def sync(self, folder: Path) -> None:
        """Make the names in a folder last through a power cut. Raises OSError."""
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@dataclass(slots=True)
class _Folder:
    """A study's folder as its rows describe it."""

    path: Path
    uid: str
    acquired_on: datetime | None
    modalities: frozenset[Modality]


@dataclass(slots=True)
class _Batch:
    """What one ingest has seen so far."""

    uids: dict[str, None] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    rows: set[tuple[Path, str]] = field(default_factory=set)
    folders: set[Path] = field(default_factory=set)
    reports: list[tuple[str, Path]] = field(default_factory=list)


class FolderArchive:
    """The archive in one folder; made at the first ingest. Any number may be open on the same folder."""

    def __init__(self, folder: Path, secret: bytes, *, priors: int = 3, disk: Disk | None = None) -> None:
        """secret: the site's. priors: how many earlier studies `load` attaches at most."""
        self._folder = folder
        self._secret = secret
        self._priors = priors
        self._disk = disk or Disk()

    def ingest(self, sources: Iterable[Source], progress: Progress | None = None) -> Ingested:
        """Keep every usable instance in files, folders, zip archives, DICOMDIRs or (name, bytes).

        progress is called with (files done, files in all). Returns also when nothing could be used: whether that is
        an error is the caller's to say. Raises ArchiveUnavailable, in one sentence, when the archive's folder cannot
        be written; what was kept before that stays.
        """
        found, left_out = find(sources)
        batch = _Batch(left_out=left_out)
        with self._available("written"), quiet():
            self._clear_stale()
            for done, each in enumerate(found, start=1):
                self._ingest_one(each, batch)
                if progress is not None:
                    progress(done, len(found))
            for folder in batch.folders:
                self._disk.sync(folder)
            reason = "it is the report of a study without images here; it is kept until they come"
            left_out += [LeftOut(name, reason) for name, folder in batch.reports if not any(folder.glob("*.row.json"))]
        return Ingested(tuple(batch.uids), tuple(batch.left_out))

    def load(self, study_uid: str) -> Study:
        """The study, normalised, with at most `priors` strictly earlier studies of the same patient, newest first.

        Earlier studies of the same kind (CT, or radiographs) come before others when not all can be attached. One
        whose patient's birth date or sex contradicts is not attached, but listed.
        Raises KeyError when the study is not in the archive, NoStudy when nothing in it can be used,
        ArchiveUnavailable when the folder cannot be read.
        """
        with self._available("read"), quiet():
            folder, elsewhere = self._locate(study_uid)
            instances, left_out = _read(folder.path)
            if elsewhere:
                left_out.append(LeftOut(f"{elsewhere} images", "they carry the study's UID but another patient's id"))
            study = _with_marks(assemble(instances, self._secret, left_out), folder.path)
            priors: list[Study] = []
            for earlier in self._earlier(folder, study):
                prior, reason = self._prior(earlier, instances[0].dataset)
                if prior is not None:
                    priors.append(prior)
                else:
                    left_out.append(LeftOut("an earlier study", reason))
        lost = (*study.left_out, *(each for each in left_out if each.name == "an earlier study"))
        return replace(study, priors=tuple(priors), left_out=lost)

    def studies(self) -> tuple[StudyRow, ...]:
        """Every study with a usable image, newest first; those without a date last. Reads no images."""
        with self._available("read"):
            rows = [_row(folder) for patient in _folders(self._folder) for folder in _described(patient)]
        return tuple(sorted(rows, key=lambda row: (row.acquired_on or datetime.min, row.uid), reverse=True))

    def row(self, study_uid: str) -> StudyRow:
        """The line of one study. Reads no images. KeyError when the study is not in the archive."""
        with self._available("read"):
            return _row(self._locate(study_uid)[0])

    def datasets(self, study_uid: str, *, with_pixels: bool = True) -> dict[str, Dataset]:
        """The study's datasets by SOP Instance UID, as they came, for those who write results that refer to them.

        Pixel data are read from the archive when they are asked for; with_pixels=False leaves them out altogether.
        Raises KeyError when the study is not in the archive.
        """
        datasets: dict[str, Dataset] = {}
        with self._available("read"), quiet():
            folder, _ = self._locate(study_uid)
            for path in _instances(folder.path):
                dataset = (
                    parse_file(path) if with_pixels else pydicom.dcmread(path, stop_before_pixels=True, force=True)
                )
                datasets.setdefault(text(dataset, "SOPInstanceUID"), dataset)
        return datasets

    def holds(self, key: str) -> frozenset[str]:
        """The sha256 of every instance that is kept of the study with this key (study_key), of whatever patient."""
        with self._available("read"):
            folders = [patient / key for patient in _folders(self._folder)]
            return frozenset(path.stem for folder in folders for path in _instances(folder))

    def accession(self, study_uid: str) -> str:
        """The accession number that its images state, "" when none does. KeyError when the study is unknown."""
        with self._available("read"), quiet():
            folder, _ = self._locate(study_uid)
            for path in _instances(folder.path):
                head = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=["AccessionNumber"])
                if stated := text(head, "AccessionNumber"):
                    return stated
            return ""

    def header(self, study_uid: str) -> Dataset:
        """The header of one of its instances: whose study it is. KeyError when the study is unknown."""
        with self._available("read"), quiet():
            folder, _ = self._locate(study_uid)
            return pydicom.dcmread(_instances(folder.path)[0], stop_before_pixels=True, force=True)

    def study_hash(self, study_uid: str) -> str:
        """The sha256 over the study's contents, the same whatever the order of arrival. KeyError when unknown."""
        with self._available("read"):
            folder, _ = self._locate(study_uid)
            return sha256("\n".join(path.stem for path in _instances(folder.path)).encode()).hexdigest()

    # ------------------------------------------------------------------------------------------------------- ingesting

    def _ingest_one(self, each: Found, batch: _Batch) -> None:
        try:
            data = each.read()
            dataset = parse(data)
        except Unreadable as exc:
            batch.left_out.append(LeftOut(each.name, str(exc)))
            return
        reason, uid = refusal(dataset), text(dataset, "StudyInstanceUID")
        if reason is not None:
            batch.left_out.append(LeftOut(each.name, reason))
        if not uid:
            return
        folder = self._folder / patient_key(dataset, self._secret) / study_key(uid, self._secret)
        name = sha256(data).hexdigest()
        if marks := marks_of(dataset):
            self._keep(folder / f"{name}.marks.json", marks_to_json(marks).encode(), batch)
        if reason is not None:
            note = json.dumps({"name": each.name, "reason": reason}, sort_keys=True)
            self._keep(folder / f"{name}.left.json", note.encode(), batch)
            return
        self._keep(folder / f"{name}.dcm", data, batch)
        if is_image(dataset):
            when = acquired_on(dataset)
            row = {"uid": uid, "modality": modality_of(dataset), "acquired_on": when.isoformat() if when else None}
            line = json.dumps(row, sort_keys=True)
            if (folder, line) not in batch.rows:
                self._keep(folder / f"{sha256(line.encode()).hexdigest()}.row.json", line.encode(), batch)
                batch.rows.add((folder, line))
            batch.uids[uid] = None
        else:
            batch.reports.append((each.name, folder))

    def _keep(self, target: Path, data: bytes, batch: _Batch) -> None:
        """Write a file once: under a passing name, synced, then renamed. Its folder is synced at the end."""
        if target.exists():
            return
        incoming = self._folder / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = incoming / f"{secrets.token_hex(16)}.part"
        try:
            self._disk.write(part, data)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        batch.folders |= {target.parent, target.parent.parent, self._folder}

    def _clear_stale(self) -> None:
        incoming = self._folder / "incoming"
        if not incoming.is_dir():
            return
        for part in incoming.iterdir():
            try:
                if time.time() - part.stat().st_mtime > STALE_SECONDS:
                    part.unlink()
            except FileNotFoundError:
                continue  # another ingest finished it, or cleared it, first

    # --------------------------------------------------------------------------------------------------------- loading

    def _locate(self, study_uid: str) -> tuple[_Folder, int]:
        """The study's folder, and how many instances lie under another patient with the same Study Instance UID."""
        key = study_key(study_uid, self._secret)
        places = [folder for patient in _folders(self._folder) for folder in _described(patient, key)]
        if not places:
            raise KeyError("no such study in the archive")
        places.sort(key=lambda each: (-len(_instances(each.path)), each.path))
        return places[0], sum(len(_instances(each.path)) for each in places[1:])

    def _earlier(self, folder: _Folder, study: Study) -> list[_Folder]:
        """The earlier studies to attach, newest first."""
        if study.acquired_on is None:
            return []
        earlier = [
            (each.acquired_on, each)
            for each in _described(folder.path.parent)
            if each.path != folder.path
            and each.acquired_on is not None
            and is_before(each.acquired_on, study.acquired_on)
        ]
        earlier.sort(key=lambda pair: (pair[0], pair[1].uid), reverse=True)
        kinds = {series.modality.is_projection for series in study.series}
        alike = [pair for pair in earlier if kinds & {modality.is_projection for modality in pair[1].modalities}]
        others = [pair for pair in earlier if pair not in alike]
        chosen = [*alike, *others][: self._priors]
        return [each for _, each in sorted(chosen, key=lambda pair: pair[0], reverse=True)]

    def _prior(self, folder: _Folder, current: Dataset) -> tuple[Study | None, str]:
        instances, left_out = _read(folder.path)
        if any(contradict(current, each.dataset) for each in instances):
            return None, "its patient has the same id but another birth date or sex, so it is not compared with"
        try:
            return _with_marks(assemble(instances, self._secret, left_out), folder.path), ""
        except NoStudy:
            return None, "none of its images can be used"

    @contextmanager
    def _available(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            match exc.errno:
                case errno.ENOSPC | errno.EDQUOT:
                    reason = "the disk is full"
                case errno.EROFS:
                    reason = "it is on a read-only disk"
                case errno.EACCES | errno.EPERM:
                    reason = "permission is denied"
                case errno.ENOTDIR | errno.EEXIST:
                    reason = "a file is where a folder should be"
                case _:
                    reason = (exc.strerror or "the system does not say why").lower()
            raise ArchiveUnavailable(f"the archive {self._folder} cannot be {done}: {reason}") from exc


def _read(folder: Path) -> tuple[list[Instance], list[LeftOut]]:
    """Every instance kept for a study, and what was left out when it came or is damaged since."""
    instances, left_out = [], []
    kept = _instances(folder)
    for path in kept:
        try:
            dataset = parse_file(path)
        except Unreadable as exc:
            left_out.append(LeftOut("a file of the archive", str(exc)))
        else:
            instances.append(Instance(label(dataset), dataset))
    names = {path.stem for path in kept}
    for path in sorted(folder.glob("*.left.json")):
        if path.name.removesuffix(".left.json") not in names:  # a later version may use what an earlier one could not
            left_out.append(LeftOut(**json.loads(path.read_text(encoding="utf-8"))))
    return instances, left_out


def _with_marks(study: Study, folder: Path) -> Study:
    """The study with what reports of measurements on it follow over time."""
    marks: dict[str, Mark] = {}
    for path in sorted(folder.glob("*.marks.json")):
        for mark in marks_from_json(path.read_text(encoding="utf-8")):
            marks.setdefault(mark.uid, mark)
    return replace(study, tracked=tuple(placed(mark, study.series) for mark in marks.values()))


def _instances(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"))


def _folders(folder: Path) -> Sequence[Path]:
    """The folders of the patients; none when the archive is not made yet."""
    if not folder.exists():
        return ()
    return [each for each in sorted(folder.iterdir()) if each.is_dir() and each.name != "incoming"]


def _described(patient: Path, key: str | None = None) -> Iterator[_Folder]:
    """The patient's studies that have a usable image; only the one of this key, if one is given."""
    for path in [patient / key] if key else sorted(patient.iterdir()):
        rows = [json.loads(row.read_text(encoding="utf-8")) for row in path.glob("*.row.json")]
        if rows:
            dates = [datetime.fromisoformat(row["acquired_on"]) for row in rows if row["acquired_on"]]
            modalities = frozenset(Modality(row["modality"]) for row in rows)
            yield _Folder(path, rows[0]["uid"], min(dates, default=None), modalities)


def _row(folder: _Folder) -> StudyRow:
    return StudyRow(
        uid=folder.uid,
        patient_key=folder.path.parent.name,
        acquired_on=folder.acquired_on,
        modalities=tuple(sorted(folder.modalities)),
        instances=len(_instances(folder.path)),
    )


def is_before(one: datetime, other: datetime) -> bool:
    """True when it is certain: of one day, midnight is what a study without a StudyTime has, and tells no order."""
    if one.date() == other.date() and datetime.min.time() in (one.time(), other.time()):
        return False
    return one < other
