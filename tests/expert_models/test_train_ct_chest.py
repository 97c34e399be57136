from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from dicom_io.phantom.patient import LesionKind, draw_patient
from expert_models.card import packaged_card
from expert_models.ct_chest_network import CARD, logits_on, network_input
from expert_models.train.ct_chest import Plan, batch_of, by_lesion
from expert_models.train.ct_chest_calibration import alarm
from expert_models.train.ct_chest_scenes import LABELS, PATCH, TISSUES, ChestScene, patch_of, truth_of


def drawn() -> ChestScene:
    """Two blocks of lung in soft tissue, the right one at low columns, as in an upright grid; fluid at its back."""
    shape = (100, 80, 110)
    hu = np.full(shape, 40, np.int16)
    bits = np.zeros(shape, np.uint16)
    for name, columns in (("right thorax", slice(15, 50)), ("left thorax", slice(60, 95))):
        hu[20:80, 15:65, columns] = -860
        bits[20:80, 15:65, columns] |= 1 << LABELS.index(name)
    hu[20:80, 55:65, 15:50] = 10
    bits[20:80, 55:65, 15:50] |= 1 << LABELS.index("effusion")
    bits[30:34, 20:24, 60:64] |= 1 << (len(LABELS) + TISSUES.index("thin"))
    return ChestScene(hu, bits)


def test_patches_keep_sides_and_masks_lie_on_their_voxels() -> None:
    seen = 0
    for number in range(6):
        generator = torch.Generator().manual_seed(number)
        hu, truth, weight = patch_of(drawn(), np.random.default_rng(number), generator)
        assert hu.shape == weight.shape == (1, *PATCH)
        assert truth.shape == (len(LABELS), *PATCH)
        right, left, fluid = (truth[LABELS.index(name)] > 0 for name in ("right thorax", "left thorax", "effusion"))
        if right.sum() > 500 and left.sum() > 500:
            assert torch.nonzero(right)[:, 2].float().mean() < torch.nonzero(left)[:, 2].float().mean()
            seen += 1
        dry = (right | left) & ~fluid
        assert hu[0][dry].median() < -400
        if fluid.sum() > 200:
            assert -60 < hu[0][fluid].median() < 120
    assert seen >= 3


def test_the_same_step_draws_the_same_batch() -> None:
    plan = Plan(batch=2)
    for one, two in zip(batch_of([[drawn()]], plan, 7), batch_of([[drawn()]], plan, 7), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert not torch.equal(batch_of([[drawn()]], plan, 7)[0], batch_of([[drawn()]], plan, 8)[0])


def test_a_rare_lesion_is_drawn_as_often_as_any() -> None:
    wet = drawn()
    dry = ChestScene(wet.hu, wet.bits & ~np.uint16(1 << LABELS.index("effusion")))
    groups = by_lesion([*[dry] * 9, wet])
    assert [len(group) for group in groups] == [10, 1]  # all, and with fluid; of the others there are none
    plan, fluid = Plan(), LABELS.index("effusion")
    has = [bool(batch_of(groups, plan, step)[1][0, fluid].any()) for step in range(40)]
    assert 12 <= sum(has) <= 32  # one half and a tenth of the other, less what lies outside of the patch


def test_the_truth_of_a_phantom_holds_its_pleura() -> None:
    kinds = [LesionKind.EFFUSION, LesionKind.PNEUMOTHORAX, LesionKind.CONSOLIDATION]
    visit = draw_patient(12, kinds=kinds, spacing_mm=4.0, upright=False).visits[-1]
    truth = truth_of(visit)
    for lesion in visit.lesions:
        mask = lesion.on_grid(visit.hu.shape)
        assert np.array_equal(truth[lesion.kind.value], mask)
        assert (truth[f"{lesion.side} thorax"] | ~mask).all()
    assert not (truth["right thorax"] & truth["left thorax"]).any()


def test_the_two_windows_of_the_network_by_hand() -> None:
    card = packaged_card(CARD)  # -1024 to 476 and -160 to 340 HU
    read = network_input(torch.tensor([-1024.0, -274.0, 90.0, 476.0]).reshape(1, 1, 1, 1, 4), card)
    assert read[0, 0].flatten().tolist() == pytest.approx([-1, 0, 0.485333, 1], abs=1e-5)
    assert read[0, 1].flatten().tolist() == pytest.approx([-1, -1, 0, 1], abs=1e-5)


def test_windows_are_put_together_where_they_were_cut() -> None:
    class Copying(nn.Module):
        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return picture[:, :1].repeat(1, len(LABELS), 1, 1, 1)

    hu = np.random.default_rng(0).uniform(-1024, 476, (70, 30, 100)).astype(np.float32)
    logits = logits_on(hu, Copying(), packaged_card(CARD))
    assert logits.shape == (len(LABELS), *hu.shape)
    np.testing.assert_allclose(logits[3], (hu + 1024) / 750 - 1, atol=0.02)  # bfloat16 at most


def test_an_alarm_is_what_hardly_any_side_without_the_lesion_reaches() -> None:
    without = [i / 10 - 8 for i in range(101)]  # -8 to 2
    scores, there = [*without, 3.0, 4.0, 5.0], [False] * 101 + [True] * 3
    assert alarm("effusion", scores, there) == pytest.approx(1.9)  # the second highest of 101
    assert alarm("effusion", [each - 10 for each in without] + [3.0, 4.0, 5.0], there) == 0.0
    with pytest.raises(ValueError, match="has not learned it"):
        alarm("effusion", [*without, 1.0, 1.5, 5.0], there)
    with pytest.raises(ValueError, match="too few"):
        alarm("effusion", without, [False] * 101)
