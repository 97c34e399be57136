"""The light encoder's own layer, against the one that it stands for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from expert_models.encoder import DepthwiseConv2d


@pytest.mark.parametrize("stride", [1, 2])
def test_a_depthwise_convolution_stays_whole_in_half_precision(stride: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 8, 5, stride, groups=8, bias=False)
    own = DepthwiseConv2d(plain)
    x = torch.randn(2, 8, 20, 20)
    assert torch.equal(own(x), plain(x))
    with torch.autocast("cpu", torch.bfloat16):
        halved = own(x.bfloat16())
        rounded = plain(x)
    assert (halved.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(halved, plain(x.bfloat16().float()))
    with torch.autocast("cpu", torch.bfloat16):  # weights as they are shipped
        assert own.half()(x).dtype == torch.float32
