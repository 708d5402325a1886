"""BNext-like: thresholds a channel, gates from a squeeze of the input around each binary convolution, 1x1 pairs."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.birealnet import Bias
from tests.networks.common import Binary


class Sign(torch.autograd.Function):
    """sign with the gradient of a clip, made of a convention-free comparison."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype) * 2 - 1

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() < 1)


class NormalisedConv(nn.Conv2d, Binary):
    """Signs of centred weights; the scale of a filter is a parameter of its own, behind the convolution."""

    def __init__(self, inputs, outputs, kernel, stride=1):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.alpha = nn.Parameter(torch.full((1, outputs, 1, 1), 0.05))

    def forward(self, x):
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, Sign.apply(w), None) * self.alpha


class Gate(nn.Module):
    """Squeeze and excite: real, and tiny."""

    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x):
        return torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class Unit(nn.Module):
    """Threshold, sign, convolution, gate, BN, shifted PReLU, shortcut."""

    def __init__(self, channels, kernel, stride=1):
        super().__init__()
        self.threshold, self.conv = Bias(channels), NormalisedConv(channels, channels, kernel, stride)
        self.gate, self.bn = Gate(channels), nn.BatchNorm2d(channels)
        self.before, self.act, self.behind = Bias(channels), nn.PReLU(channels), Bias(channels)
        self.pool = nn.AvgPool2d(2, 2) if stride == 2 else nn.Identity()

    def forward(self, x):
        y = self.conv(Sign.apply(self.threshold(x))) * self.gate(x)
        return self.behind(self.act(self.before(self.bn(y) + self.pool(x))))


class Widen(nn.Module):
    """Twice the channels: two units side by side on one input, joined."""

    def __init__(self, channels):
        super().__init__()
        self.left, self.right = Unit(channels, 1), Unit(channels, 1)

    def forward(self, x):
        return torch.cat([self.left(x), self.right(x)], 1)


class BNext(nn.Module):
    """A patch stem, three stages, one head."""

    def __init__(self, width=16, classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.BatchNorm2d(width), nn.PReLU(width))
        self.stages = nn.Sequential(
            Unit(width, 3),
            Widen(width),
            Unit(2 * width, 3, 2),
            Unit(2 * width, 1),
            Widen(2 * width),
            Unit(4 * width, 5, 2),
            Unit(4 * width, 1),
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x):
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


def bnext():
    return BNext()
