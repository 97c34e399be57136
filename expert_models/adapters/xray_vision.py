"""A checkpoint of TorchXRayVision (https://github.com/mlmed/torchxrayvision) as an expert on frontal chest radiographs.

Its networks read one square picture in [-1024, 1024], and answer with a score in [0, 1] for each of `pathologies`. A
label that a checkpoint was not trained on is "" there, and its operating point is not a number: both are masked. A
score of 0.5 is the operating point, where sensitivity less false alarms was largest on its makers' own test data
(scripts/model_calibrate.py in its repository). It is not a probability, and none is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dicom_io.study import Series
from expert_models import chest_radiograph, codes
from expert_models.adapters.adapted import read_adapted
from expert_models.card import packaged_card
from expert_models.errors import BundleRefused
from expert_models.finding import Code, ExpertTag, Finding, Presence
from expert_models.input_check import refuses_radiograph
from expert_models.once import Once
from expert_models.ports import Masks
from expert_models.preprocess import Letterbox

CODES = {
    "Atelectasis": codes.ATELECTASIS,
    "Consolidation": codes.CONSOLIDATION,
    "Pneumothorax": codes.PNEUMOTHORAX,
    "Edema": codes.PULMONARY_EDEMA,
    "Emphysema": codes.EMPHYSEMA,
    "Effusion": codes.PLEURAL_EFFUSION,
    "Cardiomegaly": codes.CARDIOMEGALY,
    "Nodule": codes.LUNG_NODULE,
    "Mass": codes.LUNG_MASS,
    "Lung Opacity": codes.LUNG_OPACITY,
}
NOT_REPORTED = (
    "Infiltration",
    "Fibrosis",
    "Pneumonia",
    "Pleural_Thickening",
    "Hernia",
    "Lung Lesion",
    "Fracture",
    "Enlarged Cardiomediastinum",
)  # fmt: skip - codes.py has no concept for them
RANGE = 1024.0  # darkest -RANGE, brightest +RANGE
OPERATING_POINT = 0.5
SIZE = 224  # pixels, where a model does not say


class Adapter:
    """The expert in one folder of the shelf; its weights are loaded at the first examination."""

    def __init__(self, folder: str, device: str = "cpu") -> None:
        """Raises BundleRefused when the package is missing, or is not the version that was added."""
        self._added = read_adapted(Path(folder))
        self._device = device
        self._film = packaged_card(chest_radiograph.CARD)
        self._model: Once[Any] = Once(self._loaded)

    @property
    def tag(self) -> ExpertTag:
        """The name on the shelf, the package's version, the weights."""
        return self._added.tag

    @property
    def concepts(self) -> tuple[Code, ...]:
        """Every label that has a code, whether this checkpoint was trained on it or not."""
        return tuple(CODES.values())

    def refuses(self, series: Series) -> str | None:
        """Why this series is not a frontal chest radiograph that can be read; None when it may be."""
        return refuses_radiograph(series, self._film)

    def prepare(self) -> None:
        """Check that no file has changed, and load the weights."""
        self._model()

    def examine(self, series: Series, masks: Masks) -> Sequence[Finding]:
        """One finding a label, of the whole chest and without a place."""
        scores = self.scores(np.asarray(series.volume.voxels[0], dtype=np.float32))
        return [self._finding(code, scores.get(label)) for label, code in CODES.items()]

    def scores(self, picture: npt.NDArray[np.float32]) -> Mapping[str, float]:
        """By label that was trained, of a picture (rows, columns) in [0, 1]; not a number without an operating point.

        BundleRefused when the model does not answer with one score a label.
        """
        import torch

        model = self._model()
        frame = network_input(picture, int(getattr(model, "input_resolution", SIZE)))
        with torch.inference_mode():
            answer = model(torch.from_numpy(frame)[None, None].to(self._device)).float().cpu().numpy()
        names = list(model.pathologies)
        points = None if model.op_threshs is None else np.ravel(model.op_threshs.cpu().numpy())
        if answer.shape != (1, len(names)) or points is None or len(points) != len(names):
            raise BundleRefused(f"{self._added.model} does not answer with one score and operating point a label")
        rows = zip(names, answer[0], points, strict=True)
        return {name: float(score) if isfinite(point) else nan for name, score, point in rows if name}

    def _finding(self, code: Code, score: float | None) -> Finding:
        if score is not None and 0.0 <= score <= 1.0:
            presence = Presence.INDETERMINATE if score >= OPERATING_POINT else Presence.ABSENT
            return Finding("f1", code, presence, self.tag)
        why = "was not trained on it" if score is None else "has no operating point for it"
        return Finding("f1", code, Presence.NOT_ASSESSED, self.tag, reason=f"the checkpoint {self._added.model} {why}")

    def _loaded(self) -> Any:
        self._added.check_files()  # also before anything is unpickled; and what is there is not fetched
        models = import_module("torchxrayvision.models")
        model = models.get_model(self._added.model, cache_dir=str(self._added.files))
        return model.to(self._device).eval()


def network_input(picture: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """(rows, columns) in [0, 1] -> the middle square, (size, size) in [-1024, 1024].

    What a picture has beyond the square along its longer side is not seen, as in the makers' own preprocessing.
    """
    rows, columns = picture.shape
    side = min(rows, columns)
    top, left = rows // 2 - side // 2, columns // 2 - side // 2
    square = picture[top : top + side, left : left + side]
    return np.asarray((2 * Letterbox((side, side), (size, size)).lay(square) - 1) * RANGE, dtype=np.float32)


def weights_of(model: str) -> dict[str, Path]:
    """The file of a model's weights in the folder where the package keeps what it fetched."""
    known = import_module("torchxrayvision.models").model_urls
    if model not in known:
        raise BundleRefused(f"TorchXRayVision has no model {model}: it has {', '.join(sorted(known))}")
    name = str(known[model]["weights_url"]).rpartition("/")[2]
    path = Path(import_module("torchxrayvision.utils").get_cache_dir()) / name
    if not path.is_file():
        raise BundleRefused(f"its weights are not there, and wetread fetches none: put {name} into {path.parent}")
    return {name: path}
