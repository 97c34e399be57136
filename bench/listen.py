"""How many slices a second `wetread listen` takes, against dcmtk's storescp in the same run.

    python bench/listen.py [--slices 200] [--runs 3]

storescu of dcmtk sends the same 512 x 512 CT slices over one association to each of them in turn, with TCP_NODELAY=1 on
both sides. storescp answers when it has written the file; wetread when the file was read through, synced to the disk
and has its name in the spool. The last line is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

QUICK = os.environ | {"TCP_NODELAY": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    if shutil.which("storescu") is None or shutil.which("storescp") is None:
        sys.exit("storescu and storescp of dcmtk are needed")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = write_slices(folder / "sent", arguments.slices)
        ours, theirs = free_port(), free_port()
        (folder / "received").mkdir()
        servers = [
            subprocess.Popen(
                ["storescp", "-q", "-od", str(folder / "received"), "-pdu", "131072", str(theirs)], env=QUICK
            ),
            subprocess.Popen(
                [Path(sys.executable).with_name("wetread"), "listen"],
                env=QUICK
                | {
                    "WETREAD_HOME": str(folder / "home"),
                    "WETREAD_LISTEN_PORT": str(ours),
                    "WETREAD_QUIET_S": "3600",  # the archive's work is not what is measured
                },
            ),
        ]
        try:
            for port in (ours, theirs):
                wait_for(port)
            speeds: dict[int, list[float]] = {ours: [], theirs: []}
            for _ in range(arguments.runs + 1):
                for port in speeds:
                    speeds[port].append(send(files, port))
        finally:
            for server in servers:
                server.terminate()
                server.wait(30)
    medians = [statistics.median(speeds[port][1:]) for port in (ours, theirs)]  # the first run warms up
    print(f"wetread listen {medians[0]:7.0f} slices/s")
    print(f"storescp       {medians[1]:7.0f} slices/s")
    print(f"ratio          {medians[0] / medians[1]:7.2f}   ({arguments.slices} slices, {arguments.runs} runs)")


def send(files: list[Path], port: int) -> float:
    """Slices a second."""
    started = time.perf_counter()
    command = ["storescu", "-pdu", "131072", "-aec", "WETREAD", "127.0.0.1", str(port), *map(str, files)]
    subprocess.run(command, check=True, env=QUICK)
    return len(files) / (time.perf_counter() - started)


def write_slices(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    noise = np.random.default_rng(7)
    files = []
    for number in range(count):
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, generate_uid()
        made.StudyInstanceUID, made.SeriesInstanceUID = (
            generate_uid(entropy_srcs=[word]) for word in ("study", "series")
        )
        made.PatientID, made.Modality, made.InstanceNumber = "BENCH", "CT", number + 1
        made.Rows = made.Columns = 512
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
        made.PixelData = noise.integers(0, 4096, (512, 512), dtype="<u2").tobytes()
        files.append(folder / f"{number:04d}.dcm")
        pydicom.dcmwrite(files[-1], made, enforce_file_format=True)
    return files


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    sys.exit("a server does not come up")


if __name__ == "__main__":
    main()
