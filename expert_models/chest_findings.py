"""The chest X-ray findings expert: opacity, effusion, atelectasis, edema and more, each with its side, place and doubt.

It refuses what the chest radiograph expert refuses, and has the lungs outlined by that expert's network: without two
lungs there is no side. Of its labels some were measured on real radiographs, and their probabilities are calibrated
there. Others were learned from phantoms: on a real film they are not assessed, but for a strong sign, which is told as
possible. What it cannot tell is not assessed at all. The card says which label is which: by a slope, an alarm or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dicom_io.study import Series
from expert_models import chest_radiograph
from expert_models.card import Card, Label, packaged_card
from expert_models.chest_radiograph import ChestRadiograph, doubt_of_lungs, region_of
from expert_models.codes import PULMONARY_EDEMA
from expert_models.finding import Code, ExpertTag, Finding, Presence, Region, Side
from expert_models.once import Once
from expert_models.ports import Masks

if TYPE_CHECKING:
    from torch import nn

    from expert_models.findings_reader import FindingsReader, Reading
    from expert_models.segment import Segmenter

CARD = "cxr-findings"
SIDES = (Side.RIGHT, Side.LEFT)  # the order of the network's answers
BOTH_SIDES = frozenset({PULMONARY_EDEMA})  # of the whole chest: the stronger side answers, and no side is said
UNPROVEN = "no strong sign is seen, and how often the expert misses one on real radiographs is not known"
UNANSWERED = "where the truth is known, the answers of the expert were hardly better than a guess"


class ChestFindings:
    """Looks for what the card lists on a frontal chest radiograph."""

    def __init__(self, device: str = "cpu", card: Card | None = None, network: nn.Module | None = None) -> None:
        """network: to be used instead of the card's weights, in training."""
        self._card = card or packaged_card(CARD)
        self._network = network
        self._anatomy = packaged_card(chest_radiograph.CARD)
        self._device = device
        self._frontal = ChestRadiograph(device, self._anatomy)
        self._networks: Once[tuple[Segmenter, FindingsReader]] = Once(self._loaded)

    @property
    def tag(self) -> ExpertTag:
        """Name, version, weights."""
        return self._card.tag

    @property
    def concepts(self) -> tuple[Code, ...]:
        """What the card lists."""
        return tuple(label.code for label in self._card.labels)

    def refuses(self, series: Series) -> str | None:
        """Why this series is not a frontal chest radiograph that can be read; None when it may be."""
        return self._frontal.refuses(series)

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        """What was found on either side; all not assessed where no two lungs with a heart between them are seen."""
        reading = self.read(np.asarray(series.volume.voxels[0], dtype=np.float32))
        if isinstance(reading, str):
            return [self._not_assessed(label, reading) for label in self._card.labels]
        return self.findings(reading, series, masks)

    def findings(self, reading: Reading, series: Series, masks: Masks) -> list[Finding]:
        """What a reading of the series' picture says."""
        return [each for label in self._card.labels for each in self._answer(label, reading, series, masks)]

    def read(self, picture: npt.NDArray[np.float32]) -> Reading | str:
        """The network's answers on a picture (rows, columns) in [0, 1]; in one sentence why there are none."""
        outliner, reader = self._networks()
        outlined = outliner.segment(picture)
        if reason := doubt_of_lungs(outlined, self._anatomy.calibration):
            return reason
        return reader.read(picture, outlined.masks["right lung"], outlined.masks["left lung"])

    @property
    def card(self) -> Card:
        """Its card."""
        return self._card

    def probability(self, label: Label, score: float) -> float | None:
        """Calibrated probability of a label with this score; None for a label without calibration on real films."""
        values = self._card.calibration
        if f"{label.name}_slope" not in values:
            return None
        logit = values[f"{label.name}_slope"] * score + values[f"{label.name}_intercept"]
        return 1 / (1 + exp(-min(max(logit, -30.0), 30.0)))

    def _answer(self, label: Label, reading: Reading, series: Series, masks: Masks) -> Iterator[Finding]:
        scores = reading.scores[label.name]
        by_side: list[tuple[Side | None, float]] = list(zip(SIDES, scores, strict=True))
        if label.code in BOTH_SIDES:
            by_side = [(None, max(scores))]
        unanswered = 0
        for side, score in by_side:
            probability = self.probability(label, score)
            presence = self._presence(label, score, probability)
            if presence is Presence.NOT_ASSESSED:
                unanswered += 1
                continue
            regions: tuple[Region, ...] = ()
            if presence is not Presence.ABSENT:
                where = reading.regions(label.name, [SIDES.index(each) for each in SIDES if side in (None, each)])
                regions = tuple(region_of(series, mask, masks) for mask in where)
            yield Finding("f1", label.code, presence, self.tag, probability, side, regions=regions)
        if unanswered == len(by_side):
            is_told = f"{label.name}_alarm" in self._card.calibration
            yield self._not_assessed(label, UNPROVEN if is_told else UNANSWERED)

    def _presence(self, label: Label, score: float, probability: float | None) -> Presence:
        if probability is None:
            alarm = self._card.calibration.get(f"{label.name}_alarm")
            is_strong = alarm is not None and score >= alarm
            return Presence.INDETERMINATE if is_strong else Presence.NOT_ASSESSED
        if probability >= label.threshold:
            return Presence.PRESENT
        is_absent = probability < self._card.calibration[f"{label.name}_absent"]
        return Presence.ABSENT if is_absent else Presence.INDETERMINATE

    def _not_assessed(self, label: Label, reason: str) -> Finding:
        return Finding("f1", label.code, Presence.NOT_ASSESSED, self.tag, reason=reason)

    def _loaded(self) -> tuple[Segmenter, FindingsReader]:
        # Here and not above: naming the expert must not cost the seconds that torch and MONAI take to load.
        from expert_models.findings_reader import FindingsReader
        from expert_models.segment import Segmenter

        return Segmenter(self._anatomy, self._device), FindingsReader(self._card, self._device, self._network)
