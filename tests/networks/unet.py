"""A binary U-Net: max-pooling down, binary transposed convolutions up, skips joined before the sign."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.common import Binary


def bits(x):
    return torch.where(x >= 0, 1.0, -1.0)


class SignConv(nn.Conv2d, Binary):
    def forward(self, x):
        w = bits(self.weight) * self.weight.abs().mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, w, None)


class SignConvTranspose(nn.ConvTranspose2d, Binary):
    def forward(self, x):
        w = bits(self.weight) * self.weight.abs().mean((0, 2, 3), keepdim=True)
        return F.conv_transpose2d(x, w, None, self.stride, self.padding, self.output_padding)


class Unit(nn.Module):
    """BN - sign - conv - PReLU."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.bn, self.act = nn.BatchNorm2d(inputs), nn.PReLU(outputs)
        self.conv = SignConv(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, x):
        return self.act(self.conv(bits(self.bn(x))))


class Up(nn.Module):
    """Twice the size by a transposed convolution, then the skip beside it."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.bn, self.up = nn.BatchNorm2d(inputs), SignConvTranspose(inputs, outputs, 2, 2, bias=False)
        self.units = nn.Sequential(Unit(2 * outputs, outputs), Unit(outputs, outputs))

    def forward(self, x, skip):
        return self.units(torch.cat([self.up(bits(self.bn(x))), skip], 1))


class UNet(nn.Module):
    """Three levels."""

    def __init__(self, width=16, classes=4):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.downs = nn.ModuleList(
            nn.Sequential(Unit(width << i >> (i > 0), width << i), Unit(width << i, width << i)) for i in range(3)
        )
        self.ups = nn.ModuleList(Up(width << i + 1, width << i) for i in (1, 0))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        x, skips = self.stem(x), []
        for down in self.downs:
            x = down(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for up, skip in zip(self.ups, skips[-2::-1], strict=True):
            x = up(x, skip)
        return self.head(x)


def unet():
    return UNet()
