"""Experts in a process of their own, so that a slow, hung, crashing or hungry one costs its own findings and no more.

Only a process can be ended from outside: a thread that hangs in native code cannot, and memory that one expert takes
is missing to all. One warm process serves all experts whose code is ours or was installed; an added bundle that is
trusted to run its own code has one to itself.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock, Timer
from typing import Any

from dicom_io.study import Series
from expert_models.errors import BundleRefused, CardInvalid, ExpertError, ExpertStopped, WeightsMismatch
from expert_models.finding import Code, ExpertTag, Finding
from expert_models.ports import Expert, Masks
from expert_models.recipe import Recipe
from expert_models.wire import CarriedMasks, pack_series, unpack_findings

START_S = 120.0  # for the interpreter and our own modules, on a machine that is busy
SHARE_OF_MEMORY = 0.75  # of the machine's, for one process, where no limit is set
OURS = {each.__name__: each for each in (BundleRefused, CardInvalid, ExpertError, WeightsMismatch)}
PRIVATE = "WETREAD_"  # settings hold passwords; an expert needs none of them


@dataclass(frozen=True, slots=True)
class Limits:
    """What one examination of one series may take. megabytes: of data in memory; 0: a share of the machine's."""

    seconds: float = 600.0
    megabytes: int = 0

    @property
    def memory_mib(self) -> int:
        """The limit in MiB."""
        return self.megabytes or int(SHARE_OF_MEMORY * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20)


class ExpertProcess:
    """A process that examines, started at the first request and again after it was lost. One request at a time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._is_late = False
        atexit.register(self.close)

    def ask(self, recipe: Recipe, device: str, series: Series | None, masks: Masks) -> tuple[Finding, ...]:
        """An expert's findings on a series; with None it loads what it needs, and finds nothing.

        Raises ExpertStopped when it takes too long or too much, or the process ends; ExpertError with the expert's own
        sentence, or the kind of its error; MasksUnavailable.
        """
        request: dict[str, Any] = {"recipe": asdict(recipe), "device": device, "series": None}
        parts: list[bytes | memoryview] = []
        if series is not None:
            request["series"], voxels = pack_series(series)
            parts.append(voxels)
        with self._lock:
            head, bodies = self._exchange([json.dumps(request).encode(), *parts])
        if "failed" in head:
            self._raise(head)
        return unpack_findings(head, bodies, masks)

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is None or self._connection is None:
            return
        self._connection.close()
        self._process.kill()
        self._process.wait()
        self._process, self._connection = None, None

    def _exchange(self, parts: Sequence[bytes | memoryview]) -> tuple[dict[str, Any], list[bytes]]:
        """Send a request and take its answer, within the time there is."""
        process, connection = self._started()
        late = Timer(self.limits.seconds, self._end_late, [process])
        late.daemon = True
        late.start()
        try:
            for part in parts:
                connection.send_bytes(part)
            head = json.loads(connection.recv_bytes())
            bodies = [connection.recv_bytes() for _ in head.get("masks", ())]
            late.cancel()
            if self._is_late:
                raise EOFError
        except (OSError, EOFError, ValueError):
            raise ExpertStopped(self._obituary(process)) from None
        except BaseException:  # interrupted in the middle of a message: the next answer would be this one's
            self.close()
            raise
        finally:
            late.cancel()
        if head.get("failed") == "memory":
            self.close()  # what it holds now is not known
        return head, bodies

    def _started(self) -> tuple[subprocess.Popen[bytes], Connection]:
        if self._process is not None and self._connection is not None:
            if self._process.poll() is None:
                return self._process, self._connection
            self.close()
        ours, theirs = socket.socketpair()
        paths = os.pathsep.join(each for each in sys.path if each)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
        command = [sys.executable, "-P", "-m", "expert_models.child", str(theirs.fileno()), str(self.limits.memory_mib)]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own module, in our own interpreter
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment | {"PYTHONPATH": paths},
            )
        self._connection = Connection(ours.detach())
        if not self._connection.poll(START_S) or not self._is_ready():
            self.close()
            raise ExpertStopped("its process could not be started")
        return self._process, self._connection

    def _is_ready(self) -> bool:
        with suppress(OSError, EOFError):
            return self._connection is not None and self._connection.recv_bytes() == b"ready"
        return False

    def _end_late(self, process: subprocess.Popen[bytes]) -> None:
        self._is_late = True
        process.kill()

    def _obituary(self, process: subprocess.Popen[bytes]) -> str:
        """Why the process is no more."""
        process.kill()
        code = process.wait()
        is_late, self._is_late = self._is_late, False
        self.close()
        if is_late:
            return f"it took longer than {self.limits.seconds:g} s and was ended"
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"its process ended ({how}); it may have {self.limits.memory_mib} MiB of memory"

    def _raise(self, head: Mapping[str, str]) -> None:
        if head["failed"] == "memory":
            raise ExpertStopped(f"it needs more than the {self.limits.memory_mib} MiB of memory it may have")
        if head["failed"] == "fault":
            raise ExpertError(f"a fault ({head['sentence']})")
        raise OURS.get(head["failed"], ExpertError)(head["sentence"])


@cache
def process_of(limits: Limits, group: str) -> ExpertProcess:
    """The one process of this program for a group of experts."""
    return ExpertProcess(limits)


class Isolated:
    """An expert that examines in another process. What it is and refuses is answered here, without loading weights."""

    def __init__(self, expert: Expert, recipe: Recipe, device: str, process: ExpertProcess) -> None:
        self._expert = expert
        self._recipe = recipe
        self._device = device
        self._process = process

    @property
    def tag(self) -> ExpertTag:
        """Name, version, weights."""
        return self._expert.tag

    @property
    def concepts(self) -> tuple[Code, ...]:
        """What it answers for."""
        return self._expert.concepts

    @property
    def checks_its_input(self) -> bool:
        """Whether it is asked about pictures that a check refuses."""
        return bool(getattr(self._expert, "checks_its_input", False))

    @property
    def made_of(self) -> str:
        """What its findings depend on besides its tag: the device and, for an added bundle, its record and card."""
        digest = hashlib.sha256(self._device.encode())
        for path in sorted(Path(self._recipe.folder).glob("*.*") if self._recipe.folder else ()):
            digest.update(path.read_bytes() if path.is_file() else b"")
        return digest.hexdigest()

    def refuses(self, series: Series) -> str | None:
        """Why this series is not for this expert."""
        return self._expert.refuses(series)

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        """Findings of one accepted series. Raises as ExpertProcess.ask does."""
        return self._process.ask(self._recipe, self._device, series, masks)

    def prepare(self) -> None:
        """Load what it needs; raises as ExpertProcess.ask does, but for masks."""
        self._process.ask(self._recipe, self._device, None, CarriedMasks())
