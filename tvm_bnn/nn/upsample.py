"""Binary upsampling: from real values at low resolution to binary values at high resolution.

Four units with one contract: [N, C, H, W] real -> [N, C, s*H, s*W] of -1 and +1. Where the sign stands
follows from the arithmetic: nearest and pixel shuffle only move values, so it may come first; bilinear
makes new ones, so it must come last.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.nn.binary_conv import BinaryConv2d
from tvm_bnn.nn.binary_conv_transpose import BinaryConvTranspose2d
from tvm_bnn.nn.threshold_sign import ThresholdSign


class NearestUpsample(nn.Module):
    """Sign, then every bit s*s times."""

    def __init__(self, channels: int, scale: int):
        super().__init__()
        self.scale = float(scale)
        self.sign = ThresholdSign(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.sign(x), scale_factor=self.scale, mode="nearest")


class BilinearUpsample(nn.Module):
    """Bilinear interpolation (align_corners=False) of the real values, then sign."""

    def __init__(self, channels: int, scale: int):
        super().__init__()
        self.scale = float(scale)
        self.sign = ThresholdSign(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.sign(F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False))


class TransposedUpsample(nn.Module):
    """Sign, binary transposed convolution, BN, sign.

    The output is exactly s times as large: (H - 1) * s - 2p + k = s * H needs k - 2p = s. With
    k = 2s - (s mod 2), p = (k - s) / 2 each output sees two input positions an axis (for odd s, at most two).
    """

    def __init__(self, channels: int, scale: int):
        super().__init__()
        kernel = 2 * scale - scale % 2
        self.sign = ThresholdSign(channels)
        self.conv = BinaryConvTranspose2d(channels, channels, kernel, scale, (kernel - scale) // 2)
        self.norm = nn.BatchNorm2d(channels)
        self.between = ThresholdSign(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.between(self.norm(self.conv(self.sign(x))))


class PixelShuffleUpsample(nn.Module):
    """Sign, binary 1x1 convolution to s*s*C channels, BN, pixel shuffle, sign."""

    def __init__(self, channels: int, scale: int):
        super().__init__()
        self.scale = scale
        self.sign = ThresholdSign(channels)
        self.conv = BinaryConv2d(channels, channels * scale * scale, 1)
        self.norm = nn.BatchNorm2d(channels * scale * scale)
        self.between = ThresholdSign(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.between(F.pixel_shuffle(self.norm(self.conv(self.sign(x))), self.scale))


UPSAMPLINGS: dict[str, type[nn.Module]] = {
    "nearest": NearestUpsample,
    "bilinear": BilinearUpsample,
    "transposed": TransposedUpsample,
    "pixel_shuffle": PixelShuffleUpsample,
}
