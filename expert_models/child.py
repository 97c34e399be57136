"""The process that examines: it makes experts by their recipes, keeps them warm, and ends with its parent.

Started by expert_models/isolated.py as `python -m expert_models.child SOCKET MEGABYTES`. Requests are a JSON message
and the bytes of the voxels, see expert_models/wire.py; the answer is findings or a reason, never an exception.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any

from expert_models.errors import ExpertError
from expert_models.ports import Expert
from expert_models.recipe import Recipe
from expert_models.wire import CarriedMasks, pack_findings, unpack_series

MIB = 1024 * 1024
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "unable to allocate", "cannot allocate memory")


def main(socket: int, megabytes: int) -> None:
    """Answer requests until the parent closes its end."""
    os.dup2(2, 1)  # what an expert prints must not stand among the results of a command
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)  # the parent finishes the report in hand, then closes the connection
    with suppress(OSError):  # not on every system: when memory runs out, this process goes before the parent does
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_DATA, (megabytes * MIB, megabytes * MIB))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold patients' images
    Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    connection = Connection(socket)
    connection.send_bytes(b"ready")
    experts: dict[tuple[str, str, str], Expert] = {}
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            request = json.loads(connection.recv_bytes())
            voxels = connection.recv_bytes() if request["series"] else b""
            for part in answer(request, voxels, experts):
                connection.send_bytes(part)
    os._exit(0)  # threads of foreign libraries may not let the interpreter end


def answer(request: Mapping[str, Any], voxels: bytes, experts: dict[tuple[str, str, str], Expert]) -> list[bytes]:
    """The messages that answer one request: findings with their masks, or why there are none."""
    try:
        recipe = Recipe(**request["recipe"])
        key = (recipe.where, recipe.folder, request["device"])
        if key not in experts:
            experts[key] = recipe.make(request["device"])
        masks = CarriedMasks()
        if not request["series"]:
            prepare(experts[key])
            return pack_findings((), masks)
        return pack_findings(experts[key].examine(unpack_series(request["series"], voxels), masks), masks)
    except Exception as exc:  # whatever it is, the reason travels, and no traceback with a patient's data
        return [json.dumps(reason_of(exc)).encode()]


def prepare(expert: Expert) -> None:
    """Load what the expert loads at its first examination, where it offers that."""
    load = getattr(expert, "prepare", None)
    if load is not None:
        load()


def reason_of(exc: Exception) -> dict[str, str]:
    """What went wrong, told as far as it can hold no patient's data: our own sentences, or the kind of the error."""
    if isinstance(exc, ExpertError):
        return {"failed": type(exc).__name__, "sentence": str(exc)}
    is_memory = isinstance(exc, MemoryError) or any(each in str(exc).lower() for each in OUT_OF_MEMORY)
    return {"failed": "memory" if is_memory else "fault", "sentence": type(exc).__name__}


def end_with_parent(parent: int) -> None:
    """End this process within a second of the parent's, also while an expert is at work."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    main(int(sys.argv[1]), int(sys.argv[2]))
