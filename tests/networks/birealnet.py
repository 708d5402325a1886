"""Bi-Real Net and ReActNet on a ResNet-18: polynomial straight-through sign, one shortcut a convolution."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.common import Binary, ResNet18, pooled_shortcut


class PolynomialSign(nn.Module):
    """sign forward, two parabolas backward."""

    def forward(self, x):
        hard = torch.sign(x)
        low, left, right = x < -1, x < 0, x < 1
        soft = (-1) * low.type(torch.float32) + (x * x + 2 * x) * (1 - low.type(torch.float32))
        soft = soft * left.type(torch.float32) + (-x * x + 2 * x) * (1 - left.type(torch.float32))
        soft = soft * right.type(torch.float32) + 1 * (1 - right.type(torch.float32))
        return hard.detach() - soft.detach() + soft


class ScaledSignConv(nn.Module, Binary):
    """Weights sign(w) * mean|w| a filter with a clipped gradient; kept as one column."""

    def __init__(self, inputs, outputs, kernel=3, stride=1, padding=1):
        super().__init__()
        self.stride, self.padding = stride, padding
        self.shape = (outputs, inputs, kernel, kernel)
        generator = torch.Generator().manual_seed(inputs * outputs + kernel)
        self.weights = nn.Parameter(torch.randn(outputs * inputs * kernel**2, 1, generator=generator) * 0.01)

    def forward(self, x):
        real = self.weights.view(self.shape)
        scale = real.abs().mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True).detach()
        hard, soft = scale * torch.sign(real), torch.clamp(real, -1.0, 1.0)
        return F.conv2d(x, hard.detach() - soft.detach() + soft, stride=self.stride, padding=self.padding)


class BiRealBlock(nn.Module):
    """sign - conv - BN, plus what came in."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.sign, self.conv = PolynomialSign(), ScaledSignConv(inputs, outputs, 3, stride)
        self.bn, self.shortcut = nn.BatchNorm2d(outputs), pooled_shortcut(inputs, outputs, stride)

    def forward(self, x):
        return self.bn(self.conv(self.sign(x))) + self.shortcut(x)


class Bias(nn.Module):
    """A learned shift a channel."""

    def __init__(self, channels):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x):
        return x + self.bias.expand_as(x)


class ReActBlock(BiRealBlock):
    """The same with a threshold a channel before the sign, and a shifted PReLU behind the sum."""

    def __init__(self, inputs, outputs, stride):
        super().__init__(inputs, outputs, stride)
        self.threshold = Bias(inputs)
        self.before, self.act, self.behind = Bias(outputs), nn.PReLU(outputs), Bias(outputs)

    def forward(self, x):
        y = self.bn(self.conv(self.sign(self.threshold(x)))) + self.shortcut(x)
        return self.behind(self.act(self.before(y)))


def pair(block):
    """Two convolutions, each with its own shortcut, are a block of the original network."""

    def make(inputs, outputs, stride):
        return nn.Sequential(block(inputs, outputs, stride), block(outputs, outputs, 1))

    return make


def birealnet10():
    return ResNet18(pair(BiRealBlock), count=1)


def reactnet18():
    return ResNet18(pair(ReActBlock))
