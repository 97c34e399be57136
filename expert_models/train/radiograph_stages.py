"""The chest radiograph network in two stages: a teacher from drawn masks, and a student from far more pictures.

Hearts were drawn on few radiographs. The teacher learns from what was drawn. It then outlines hearts on radiographs
whose lungs alone were drawn, and everything on radiographs without any mask; outlines that are plausible and sure are
believed, at half weight. The student starts as the teacher and learns from drawn, believed and phantom masks together.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from expert_models.card import packaged_card
from expert_models.chest_radiograph import CARD, doubt_of_heart
from expert_models.encoder import LightUNet
from expert_models.preprocess import network_input
from expert_models.segment import Segmenter
from expert_models.train.cxr_anatomy import Group, Plan, Progress, as_group, train
from expert_models.train.phantoms import phantom_radiograph
from expert_models.train.radiographs import Labelled, framed, real_radiographs

TEACHER = Plan(steps=350, seed=1, rate=1.2e-3, shares={"heart": 6, "lungs": 6, "phantom": 0}, average=0.98)
STUDENT = Plan(
    steps=450, seed=2, rate=8e-4, shares={"heart": 4, "lungs": 3, "unlabelled": 2, "phantom": 3}, average=0.99
)
PHANTOMS = range(317)
BELIEVED = 0.5  # weight of a mask that the teacher drew
SURE = 0.9  # mean probability inside an outline from which it is believed
EVERY_NTH = {"cxr_serial": 1, "cxr_nih": 2}

Frames = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def train_in_stages(data: Path | None, out: Path, progress: Progress) -> tuple[LightUNet, list[tuple[int, float]]]:
    """Teacher, then student; phantoms alone, in one stage, without data. Returns the network and its whole curve."""
    size = (STUDENT.size, STUDENT.size)
    phantoms = _phantoms(size, progress)
    if data is None or not (data / "cxr_anatomy" / "index.csv").is_file():
        progress("no real radiographs: training on phantoms alone")
        return train({"phantom": phantoms}, replace(STUDENT, shares={"phantom": 12}), out / "phantoms-only", progress)
    drawn = list(real_radiographs(data / "cxr_anatomy", lambda split: split == "train"))
    hearts = [each for each in drawn if each.known[2]]
    lungs = [each for each in drawn if not each.known[2]]
    groups = {name: _group(members, size) for name, members in (("heart", hearts), ("lungs", lungs))}
    teacher, first = train(groups, TEACHER, out / "teacher", progress)
    believer = _Teacher(teacher, size)
    groups["lungs"] = believer.with_hearts(lungs)
    groups["unlabelled"] = believer.outlined(_unlabelled(data))
    groups["phantom"] = phantoms
    progress(f"the teacher outlined {len(groups['unlabelled'])} radiographs without masks")
    network, second = train(groups, STUDENT, out / "student", progress, start=teacher)
    return network, first + [(step + TEACHER.steps, loss) for step, loss in second]


class _Teacher:
    """A trained network that labels pictures, or declines to."""

    def __init__(self, network: LightUNet, size: tuple[int, int]) -> None:
        card = packaged_card(CARD)
        self._segmenter = Segmenter(card, network=network)
        self._limits = {**card.calibration, "lowest_confidence": SURE}
        self._size = size

    def outline(self, picture: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
        """(3, H, W) probabilities in the frame; None where they are not to be believed."""
        if doubt_of_heart(self._segmenter.segment(picture), self._limits):
            return None
        frame, _ = network_input(picture, self._size)
        return self._segmenter.probabilities(frame)

    def with_hearts(self, lungs: list[Labelled]) -> Group:
        """Radiographs with drawn lungs, their hearts as the teacher sees them."""
        frames: list[Frames] = []
        known = []
        for labelled in lungs:
            picture, masks = framed(labelled, self._size)
            outline = self.outline(labelled.picture)
            if outline is not None:
                masks[2] = outline[2]
            frames.append((picture, masks))
            right, left, _ = labelled.known
            known.append((float(right), float(left), BELIEVED if outline is not None else 0.0))
        return as_group(frames, known)

    def outlined(self, pictures: Iterator[npt.NDArray[np.float32]]) -> Group:
        """Pictures without masks, those that the teacher is sure of."""
        frames: list[Frames] = []
        for picture in pictures:
            outline = self.outline(picture)
            if outline is not None:
                empty = np.zeros((3, *picture.shape), dtype=bool)
                bare = Labelled("", "", "", "unlabelled", picture, empty, (False, False, False))
                frames.append((framed(bare, self._size)[0], outline))
        return as_group(frames, [(BELIEVED,) * 3] * len(frames))


def _group(members: list[Labelled], size: tuple[int, int]) -> Group:
    known = [(float(a), float(b), float(c)) for a, b, c in (each.known for each in members)]
    return as_group([framed(each, size) for each in members], known)


def _phantoms(size: tuple[int, int], progress: Progress) -> Group:
    frames = []
    for seed in PHANTOMS:
        frames.append(framed(phantom_radiograph(seed, rows=size[0], spacing_mm=3.0), size))
        if (seed + 1) % 50 == 0:
            progress(f"{seed + 1} of {len(PHANTOMS)} phantoms drawn")
    return as_group(frames, [(1.0, 1.0, 1.0)] * len(frames))


def _unlabelled(data: Path) -> Iterator[npt.NDArray[np.float32]]:
    """Training rows of the packs without masks that are there."""
    for pack, step in EVERY_NTH.items():
        index = data / pack / "index.csv"
        if not index.is_file():
            continue
        with index.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
        for row in rows[step - 1 :: step]:
            with Image.open(data / pack / row["file"]) as image:
                yield np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)
