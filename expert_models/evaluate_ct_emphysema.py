"""The emphysema index on phantoms of thin slices, in half of which part of the lungs is thinned out as emphysema is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_io.phantom.patient import draw_patient
from dicom_io.study import Modality, Series, Volume
from expert_models.codes import EMPHYSEMA_INDEX
from expert_models.ct_emphysema import LOW_ATTENUATION_HU
from expert_models.ct_lungs import ChestCtLungs
from expert_models.evaluate import Metric, mean_metric
from expert_models.evaluate_radiographs import MaskShelf
from expert_models.finding import Side

Progress = Callable[[str], None]

SPACING_MM = 1.5
SCANS = 8


def evaluate_emphysema(
    seeds: Sequence[int], limit: int | None = None, progress: Progress | None = None
) -> list[Metric]:
    """Error of LAA-950 in per cent of the lung, each lung a case, against the same count in the phantom's own lungs.

    ct_chest/laa950/given is the share of the lungs for which it was given at all.
    """
    errors: list[tuple[float, str]] = []
    given: list[tuple[float, str]] = []
    for seed in seeds[: limit or SCANS]:
        visit = draw_patient(seed, kinds=(), spacing_mm=SPACING_MM, upright=False).visits[-1]
        hu = visit.hu.copy()
        lungs = {side: visit.structures[f"{side.value}_lung"] for side in (Side.RIGHT, Side.LEFT)}
        if seed % 2 == 0:
            thin_out(np.random.default_rng([seed, 43]), hu, lungs[Side.RIGHT] | lungs[Side.LEFT])
        series = Series("1.2", Modality.CT, Volume(hu, visit.geometry), tuple(f"1.2.{k}" for k in range(hu.shape[0])))
        findings = ChestCtLungs().examine(series, MaskShelf())
        indices = {each.side: each.measurement(EMPHYSEMA_INDEX) for each in findings}
        for side, lung in lungs.items():
            index = indices.get(side)
            given.append((float(index is not None), f"phantom {seed}"))
            if index is not None:
                true = 100.0 * float((hu[lung] < LOW_ATTENUATION_HU).mean())
                errors.append((abs(index.value - true), f"phantom {seed}"))
        if progress:
            progress(f"emphysema index of phantom {seed}")
    scored = [("ct_chest/laa950/abs_error", errors), ("ct_chest/laa950/given", given)]
    return [mean_metric(name, [v for v, _ in cases], [who for _, who in cases]) for name, cases in scored if cases]


def thin_out(random: np.random.Generator, hu: npt.NDArray[np.int16], lung: npt.NDArray[np.bool_]) -> None:
    """Holes of about -965 HU, 6 to 15 mm across, in 2 to 25 % of the lungs; in place."""
    where = ndimage.find_objects(lung.astype(np.uint8))[0]
    shape = [each.stop - each.start for each in where]
    coarse = random.standard_normal([size // 6 + 2 for size in shape]).astype(np.float32)
    field = ndimage.zoom(coarse, [size / small for size, small in zip(shape, coarse.shape, strict=True)], order=1)
    field = field[tuple(slice(0, size) for size in shape)]
    inside = lung[where] & (hu[where] < -600)
    level = np.quantile(field[inside], 1 - float(random.uniform(0.02, 0.25)))
    holes = inside & (field > level)
    hu[where][holes] = np.rint(-965 + 8 * random.standard_normal(int(holes.sum()))).astype(np.int16)
