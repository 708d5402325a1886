"""A binary DeepLab head: dilated {0, 1} convolutions in parallel, an image branch, logits upsampled bilinearly."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.birealnet import BiRealBlock
from tests.networks.common import Binary


class ZeroOneConv(nn.Conv2d, Binary):
    """Activations round(clamp(x, 0, 1)), so {0, 1}, padded with 0; weights sign(w) * mean|w|."""

    def forward(self, x):
        x = torch.round(torch.clamp(x, 0, 1))
        return self._conv_forward(x, self.weight.sign() * self.weight.abs().mean(), None)


class Atrous(nn.Module):
    """K convolutions of one dilation rate, averaged."""

    def __init__(self, inputs, outputs, rate, branches=3):
        super().__init__()
        size, padding = (1, 0) if rate == 1 else (3, rate)
        self.convs = nn.ModuleList(
            ZeroOneConv(inputs, outputs, size, padding=padding, dilation=rate, bias=False) for _ in range(branches)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(branches))

    def forward(self, x):
        return sum(bn(F.relu(conv(x))) for conv, bn in zip(self.convs, self.bns)) / len(self.convs)


class ImageBranch(nn.Module):
    """The average of the whole map through a real 1x1 convolution, spread out again."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = F.relu(self.bn(self.conv(F.adaptive_avg_pool2d(x, 1))))
        return F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=True)


class DeepLab(nn.Module):
    """A dilated binary encoder, the pyramid, a binary projection and a real classifier."""

    def __init__(self, width=16, classes=5):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width))
        self.encoder = nn.Sequential(BiRealBlock(width, 2 * width, 2), BiRealBlock(2 * width, 2 * width, 1))
        self.pyramid = nn.ModuleList(Atrous(2 * width, width, rate) for rate in (1, 2, 4, 6))
        self.image = ImageBranch(2 * width, width)
        self.project = ZeroOneConv(5 * width, width, 1, bias=False)
        self.bn, self.classifier = nn.BatchNorm2d(width), nn.Conv2d(width, classes, 1)

    def forward(self, x):
        y = self.encoder(self.stem(x))
        y = torch.cat([*(branch(y) for branch in self.pyramid), self.image(y)], 1)
        logits = self.classifier(F.relu(self.bn(self.project(y))))
        return F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=True)


def deeplab():
    return DeepLab()
