"""A light encoder for MONAI's FlexibleUNet: EfficientNet-Lite0 without its last stage.

EfficientNet-Lite drops squeeze-and-excitation and swish from EfficientNet-B0 (R. Liu, "Higher accuracy on vision models
with EfficientNet-Lite", TensorFlow blog, 2020), which suits a CPU and half precision. The last stage is left out: its
0.7 million weights describe object classes. All layers are MONAI's own, so published Lite0 weights fit by name.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.blocks.encoder import BaseEncoder
from monai.networks.nets.efficientnet import EfficientNet, MBConvBlock
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE, FlexibleUNet
from torch import Tensor, nn

NAME = "efficientnet-lite0"
CHANNELS = (16, 24, 40, 112, 192)  # at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input

_STAGES = (
    "r1_k3_s11_e1_i32_o16",
    "r2_k3_s22_e6_i16_o24",
    "r2_k5_s22_e6_i24_o40",
    "r3_k3_s22_e6_i40_o80",
    "r3_k5_s11_e6_i80_o112",
    "r4_k5_s22_e6_i112_o192",
)


class DepthwiseConv2d(nn.Conv2d):
    """Another depthwise convolution without padding, with its weights, but in float32 within a CPU's autocast.

    The gradient of its weights takes a processor with AMX four times as long in bfloat16.
    """

    def __init__(self, as_: nn.Conv2d) -> None:
        kernel, stride = as_.kernel_size[0], as_.stride[0]
        super().__init__(as_.in_channels, as_.out_channels, kernel, stride, groups=as_.groups, bias=False)
        self.weight = as_.weight

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W')."""
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            whole: Tensor = self._conv_forward(x.float(), self.weight.float(), None)
            return whole


class EfficientNetLiteEncoder(EfficientNet, BaseEncoder):
    """Five feature maps, each half the size of the one before, for FlexibleUNet."""

    def __init__(
        self, spatial_dims: int = 2, in_channels: int = 1, pretrained: bool = False, drop_path: float = 0.1
    ) -> None:
        if pretrained:
            raise ValueError("the light encoder fetches nothing: its start is loaded by the training recipe")
        super().__init__(
            blocks_args_str=list(_STAGES),
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            image_size=224,  # any multiple of 32 gives the same padding
            norm=("batch", {"eps": 1e-3, "momentum": 0.01}),
            drop_connect_rate=drop_path,
        )
        del self._conv_head, self._conv_head_padding, self._bn1, self._avg_pooling, self._dropout, self._fc
        self._swish = nn.ReLU6(inplace=True)
        for block in self.modules():
            if isinstance(block, MBConvBlock):
                block._swish = nn.ReLU6(inplace=True)
                block._depthwise_conv = DepthwiseConv2d(block._depthwise_conv)

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """(B, C, H, W), H and W multiples of 32 -> five maps (B, CHANNELS[i], H / 2**(i+1), W / 2**(i+1))."""
        x = self._swish(self._bn0(self._conv_stem(self._conv_stem_padding(inputs))))
        x = x.contiguous(memory_format=torch.channels_last)  # depthwise convolutions of a CPU are faster so
        features = []
        for i, stage in enumerate(self._blocks):
            x = stage(x)
            if i + 1 in self.extract_stacks:
                features.append(x)
        return features

    @classmethod
    def get_encoder_parameters(cls) -> list[dict[str, Any]]:
        """What FlexibleUNet passes on."""
        return [{"spatial_dims": 2, "in_channels": 1, "pretrained": False}]

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """Channels of the five maps."""
        return [CHANNELS]

    @classmethod
    def num_outputs(cls) -> list[int]:
        """Five maps."""
        return [5]

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        """The name FlexibleUNet knows it by."""
        return [NAME]


class LightUNet(FlexibleUNet):
    """MONAI's FlexibleUNet on the light encoder."""

    def __init__(self, in_channels: int, out_channels: int, decoder_channels: list[int]) -> None:
        if NAME not in FLEXUNET_BACKBONE.register_dict:
            FLEXUNET_BACKBONE.register_class(EfficientNetLiteEncoder)
        super().__init__(
            in_channels=in_channels, out_channels=out_channels, backbone=NAME, decoder_channels=tuple(decoder_channels)
        )


def start_from_imagenet(network: LightUNet, published: dict[str, Tensor]) -> int:
    """Copy published EfficientNet-Lite0 weights into the encoder, colour summed to grey; how many tensors fitted.

    published: names as `_blocks.<block>._bn1.weight`; MONAI nests the same blocks in stages.
    """
    own = network.encoder.state_dict()
    fitted = 0
    for name, tensor in own.items():
        parts = name.split(".")
        source = ".".join(["_blocks", *parts[2:]]) if parts[0] == "_blocks" else name
        value = published.get(source)
        if value is None:
            continue
        if source == "_conv_stem.weight":
            value = value.sum(dim=1, keepdim=True)
        if value.shape == tensor.shape:
            own[name] = value.to(dtype=tensor.dtype)
            fitted += 1
    network.encoder.load_state_dict(own)
    return fitted


def count_parameters(network: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in network.parameters() if isinstance(parameter, torch.Tensor))
