"""What wetread needs of another system that keeps images: a PACS, an archive, a viewer's server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

Keep = Callable[[bytes], None]  # takes the bytes of one DICOM file; OSError when it cannot be kept


@dataclass(frozen=True, slots=True)
class RemoteStudy:
    """A study that another system says it has. What it does not say is "", None, empty or 0."""

    uid: str
    patient_id: str = ""
    issuer: str = ""
    acquired_on: datetime | None = None
    modalities: frozenset[str] = frozenset()
    instances: int = 0

    def __post_init__(self) -> None:
        if not self.uid.strip():
            raise ValueError("a study has a Study Instance UID")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a retrieval brought. at_listener: the instances were sent to our Storage SCP (C-MOVE), not handed over."""

    instances: int
    at_listener: bool = False


class Peer(Protocol):
    """Another system. Every call ends within a time limit; PeerSilent and PeerRefused say in one sentence why not.

    Studies are matched by attributes of the study level, by DICOM keyword (PS3.4 C.6.2.1, PS3.18 10.6).
    """

    @property
    def name(self) -> str:
        """What it is called in a message: no password, no patient data."""

    def echo(self) -> None:
        """Returns when it answers."""

    def find(self, match: Mapping[str, str]) -> tuple[RemoteStudy, ...]:
        """The studies that match, in the order in which it names them."""

    def fetch(self, study_uid: str, keep: Keep, deadline_s: float) -> Fetched:
        """Bring a study. Each instance is given to `keep`, or has come to our Storage SCP when this returns."""

    def store(self, files: Sequence[Path]) -> tuple[str, ...]:
        """Hand DICOM files over, each of them also when another was refused; one that it has already does no harm.

        Returns what it does not take, a sentence for each kind. Raises PeerRefused when it takes none of them, or
        refused one that it may take another time.
        """
