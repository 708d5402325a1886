"""Binary decoder: four stages in the manner of a feature pyramid, each of K parallel branches.

Ding et al. 2024: conv block -> attention -> parallel upsampling -> the next stage's conv blocks.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.examples.ding2024.config import Ding2024Config
from tvm_bnn.nn import BinaryAttention, BinaryConv2d, ParallelUpsample, RPReLU, SoftGate, ThresholdSign, WeightedMerge


class Lateral(nn.Sequential):
    """Binary 1x1 convolution of an encoder feature: sign, convolution, BN."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.sign = ThresholdSign(inputs)
        self.conv = BinaryConv2d(inputs, outputs, 1)
        self.norm = nn.BatchNorm2d(outputs)


class ConvBlock(nn.Module):
    """RPReLU(BN(BinaryConv1x1(sign(x))) + x), one of the K branches of a stage."""

    def __init__(self, channels: int):
        super().__init__()
        self.sign = ThresholdSign(channels)
        self.conv = BinaryConv2d(channels, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        self.activation = RPReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(self.sign(x))) + x)


def _attention(config: Ding2024Config, reduction: int) -> nn.Module:
    if config.attention == "none":
        return nn.Identity()
    options = {"reduction": reduction} if config.attention == "token" else {}
    return BinaryAttention(config.attention, config.decoder_channels, config.branches, **options)


class Branches(nn.Module):
    """K conv blocks of one map [N, C, H, W], then attention and gate over them: K maps of that shape.

    reduction : pixels along the side of one token, where the attention is over tokens.
    """

    def __init__(self, config: Ding2024Config, reduction: int):
        super().__init__()
        self.blocks = nn.ModuleList(ConvBlock(config.decoder_channels) for _ in range(config.branches))
        self.attention = _attention(config, reduction)
        self.gate = SoftGate() if config.gate else nn.Identity()

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.gate(self.attention([block(x) for block in self.blocks]))


class UpStage(nn.Module):
    """Lateral and previous stage -> branches -> parallel upsampling, with a real-valued shortcut around it.

    The shortcut is the mean of the branches, repeated to the double resolution.
    """

    def __init__(self, config: Ding2024Config, inputs: int, reduction: int):
        super().__init__()
        self.lateral = Lateral(inputs, config.decoder_channels)
        self.branches = Branches(config, reduction)
        self.upsample = ParallelUpsample(config.decoder_channels, config.branches, config.upsampling)
        self.activation = RPReLU(config.decoder_channels)

    def forward(self, feature: Tensor, previous: Tensor | None) -> Tensor:
        lateral = self.lateral(feature)
        branches = self.branches(lateral if previous is None else lateral + previous)
        shortcut = branches[0]
        for branch in branches[1:]:
            shortcut = shortcut + branch
        if len(branches) > 1:
            shortcut = shortcut / len(branches)
        shortcut = F.interpolate(shortcut, scale_factor=2.0, mode="nearest")
        return self.activation(self.upsample(branches) + shortcut)


class LastStage(nn.Module):
    """Lateral and previous stage -> branches -> their learned weighted sum, at the same resolution."""

    def __init__(self, config: Ding2024Config, inputs: int, reduction: int):
        super().__init__()
        self.lateral = Lateral(inputs, config.decoder_channels)
        self.branches = Branches(config, reduction)
        self.merge = WeightedMerge(config.branches)

    def forward(self, feature: Tensor, previous: Tensor) -> Tensor:
        return self.merge(self.branches(self.lateral(feature) + previous))


class Decoder(nn.Module):
    """The encoder's four maps, finest first -> [N, decoder_channels, H/4, W/4].

    Tokens, where the attention is over tokens, are cells of 1/32 of the image at every stage.
    """

    def __init__(self, config: Ding2024Config):
        super().__init__()
        w = config.width
        self.up = nn.ModuleList(
            UpStage(config, inputs, reduction) for inputs, reduction in [(8 * w, 1), (4 * w, 2), (2 * w, 4)]
        )
        self.last = LastStage(config, w, 8)

    def forward(self, features: list[Tensor]) -> Tensor:
        merged = None
        for stage, feature in zip(self.up, reversed(features[1:]), strict=True):
            merged = stage(feature, merged)
        return self.last(features[0], merged)
