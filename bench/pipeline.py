"""How long a report takes, warm, stage by stage: an X-ray with a prior, and a CT of 200 slices of 512 x 512.

    python bench/pipeline.py [--slices 200] [--side 512] [--runs 3]

Warm means: the weights are loaded and the library is filled by a first, unmeasured run. The peer in the same run is the
plain reading of the same files by a pydicom loop (header, pixels, rescale), which any consumer of the study has to pay;
the last column is each stage's time over that.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from scipy.ndimage import zoom

from app.bootstrap import Program, open_program
from app.logs import start_logs
from app.pipeline import Parts, report_on
from app.results.record import Record
from app.results.write import write_results
from app.settings import load_settings
from dicom_io.phantom.patient import draw_patient
from dicom_io.phantom.write import write_ct, write_radiograph
from expert_models.panel import Panel
from expert_models.registry import packaged_experts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--side", type=int, default=512, help="rows and columns of a slice")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    start_logs("warning", "console")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        program = open_program(load_settings(home=folder / "home"))
        patient = draw_patient(11, visits=2)
        for visit in (0, 1):
            write_radiograph(patient, visit, folder / f"xray-{visit}")
        write_ct(patient, 1, folder / "ct")
        resample(folder / "ct", arguments.slices, arguments.side)
        print_stages("X-ray with a prior", program, [folder / "xray-0"], folder / "xray-1", folder, arguments.runs)
        title = f"CT of {arguments.slices} slices of {arguments.side} x {arguments.side}"
        print_stages(title, program, [], folder / "ct", folder, arguments.runs)


def resample(folder: Path, slices: int, side: int) -> None:
    """Resample the phantom's CT to this many slices over its height, each a square (side x side) over its width."""
    images = sorted(
        (pydicom.dcmread(path) for path in folder.rglob("*.dcm")), key=lambda image: float(image.SliceLocation)
    )
    voxels = np.stack([squared(image.pixel_array, side) for image in images])
    low, high = (float(image.ImagePositionPatient[2]) for image in (images[0], images[-1]))
    widest = max(images[0].Rows, images[0].Columns)
    spacing_mm = float(images[0].PixelSpacing[0])
    # Edges of the square in mm, then the centre of its first pixel.
    left, top = (
        float(first) - spacing_mm / 2 - (widest - count) // 2 * spacing_mm + widest * spacing_mm / side / 2
        for first, count in zip(images[0].ImagePositionPatient, (images[0].Columns, images[0].Rows), strict=False)
    )
    for path in folder.rglob("*.dcm"):
        path.unlink()
    for number, z_mm in enumerate(np.linspace(low, high, slices)):
        near = round((z_mm - low) / (high - low) * (len(images) - 1))
        image = images[near].copy()
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        image.InstanceNumber = number + 1
        image.Rows = image.Columns = side
        image.PixelSpacing = [f"{widest * spacing_mm / side:.6f}"] * 2
        image.ImagePositionPatient = [f"{left:.4f}", f"{top:.4f}", f"{z_mm:.4f}"]
        image.SliceLocation = f"{z_mm:.4f}"
        image.SliceThickness = f"{(high - low) / (slices - 1):.4f}"
        image.PixelData = voxels[near].tobytes()
        image.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def squared(pixels: npt.NDArray[np.generic], side: int) -> npt.NDArray[np.generic]:
    """A slice (rows, columns) amid air, as a square, resampled to side x side."""
    rows, columns = pixels.shape
    widest = max(rows, columns)
    before = [(widest - count) // 2 for count in (rows, columns)]
    after = [widest - count - first for count, first in zip((rows, columns), before, strict=True)]
    square = np.pad(pixels, list(zip(before, after, strict=True)), constant_values=pixels.min())
    return zoom(square, side / widest, order=1, grid_mode=True, mode="nearest")


def read_plainly(folder: Path) -> float:
    """Seconds of the peer: every file read, decoded and rescaled by pydicom."""
    started = time.perf_counter()
    for path in sorted(folder.rglob("*.dcm")):
        image = pydicom.dcmread(path)
        image.pixel_array * float(image.get("RescaleSlope", 1)) + float(image.get("RescaleIntercept", 0))
    return time.perf_counter() - started


def print_stages(title: str, program: Program, priors: list[Path], study: Path, scratch: Path, runs: int) -> None:
    """Run once to warm up, then `runs` times; print the median of each stage."""
    experts = packaged_experts()
    peer = statistics.median(read_plainly(study) for _ in range(runs))
    if priors:
        program.archive.ingest(priors)
    measured: dict[str, list[float]] = {}
    for run in range(runs + 1):
        # A panel remembers what it has examined; a new one on the same, warm experts examines everything again.
        parts = replace(program.parts, experts=Panel(experts, program.masks))
        for stage, took in one_run(program, parts, study, scratch).items():
            if run:
                measured.setdefault(stage, []).append(took)
    medians = {stage: statistics.median(took) for stage, took in measured.items()}
    total = sum(medians.values())
    print(f"\n{title}: {total:.1f} s warm (median of {runs}); plain pydicom reading {peer:.2f} s")
    for stage, took in medians.items():
        print(f"  {stage:16} {took:7.2f} s  {took / total:5.0%}  {took / peer:7.1f} x the plain reading")


def one_run(program: Program, parts: Parts, study: Path, scratch: Path) -> dict[str, float]:
    """Seconds of each stage, from the files to all results."""
    seconds: dict[str, float] = {}

    def watch(stage: str, took: float | None) -> None:
        if took is not None:
            seconds[stage] = took

    started = time.perf_counter()
    (uid,) = program.archive.ingest([study]).study_uids
    seconds["ingest"] = time.perf_counter() - started
    report = report_on(uid, parts, watch)
    started = time.perf_counter()
    sources = program.archive.datasets(uid, with_pixels=False)
    write_results(Record(report, program.archive.load(uid), program.masks, sources), scratch / "results")
    seconds["write results"] = time.perf_counter() - started
    return seconds


if __name__ == "__main__":
    main()
