from __future__ import annotations

import numpy as np
import pytest

from dicom_io.study import Geometry, Volume
from expert_models.evaluate_ct_chest import Case, Scores, metrics_of
from expert_models.evaluate_ct_painted import paint
from expert_models.finding import Presence, Side

NAN = float("nan")


def case(phantom: str, side: Side, there: bool, said: Presence, score: float, found_ml: float = NAN) -> Case:
    volume_ml = 100.0 if there else 0.0
    return Case(phantom, "effusion", side, there, said, score, 0.8 if there else 1.0, (volume_ml, found_ml))


def test_the_scores_by_hand() -> None:
    scores = [
        Scores(
            "a",
            (
                case("a", Side.RIGHT, True, Presence.INDETERMINATE, 0.9, 90.0),
                case("a", Side.LEFT, False, Presence.NOT_ASSESSED, 0.1),
            ),
            (("heart/dice", 0.9), ("ratio/abs_error", 0.01), ("ratio/abs_error", 0.02)),
        ),
        Scores(
            "b",
            (
                case("b", Side.RIGHT, False, Presence.INDETERMINATE, 0.6),
                case("b", Side.LEFT, True, Presence.NOT_ASSESSED, 0.4, 130.0),
            ),
            (("heart/dice", 0.7),),
        ),
    ]
    found = {metric.name: metric for metric in metrics_of(scores)}
    assert {name: (pytest.approx(metric.value), metric.n) for name, metric in found.items()} == {
        "ct_chest/effusion/auroc": (0.75, 4),  # of four pairs, 0.4 against 0.6 is the wrong way round
        "ct_chest/effusion/dice": (0.8, 2),
        "ct_chest/effusion/volume/rel_error": (0.2, 2),
        "ct_chest/effusion/sensitivity": (0.5, 2),
        "ct_chest/effusion/specificity": (0.5, 2),
        "ct_chest/laterality/accuracy": (0.5, 2),
        "ct_chest/heart/dice": (0.8, 2),
        "ct_chest/ratio/abs_error": (0.015, 2),
    }


@pytest.mark.parametrize(
    ("label", "mean_hu", "is_behind"),
    [("effusion", 12, True), ("pneumothorax", -1000, False), ("consolidation", 40, None)],
)
def test_lesions_are_painted_where_they_lie_in_a_supine_patient(
    label: str, mean_hu: float, is_behind: bool | None
) -> None:
    volume = Volume(np.full((20, 30, 40), -850, np.int16), Geometry(np.diag([3.0] * 3 + [1.0])[[2, 1, 0, 3]]))
    lung = np.zeros(volume.shape, bool)
    lung[2:18, 5:25, 5:20] = True
    painted = paint(volume, lung, label, Side.RIGHT, 0.4)
    assert painted.mask.sum() == pytest.approx(0.4 * lung.sum(), abs=1)
    assert (lung | ~painted.mask).all()
    inner = painted.mask & np.roll(painted.mask, 2, 1) & np.roll(painted.mask, -2, 1)
    assert painted.volume.voxels[inner].mean() == pytest.approx(mean_hu, abs=60)  # edges are blurred
    rows = np.nonzero(painted.mask)[1].mean()
    assert rows > 20 if is_behind else rows < 10 if is_behind is False else rows == pytest.approx(14.5, abs=1)
    assert (painted.volume.voxels[:, :, 30:] == -850).all()
