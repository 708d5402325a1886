"""AdaBin on a CIFAR ResNet: two learned levels for activations, two levels a filter for weights, Maxout behind."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.common import Binary


class TwoLevels(nn.Module):
    """a * (sign((x - b) / a) + b), a and b learned."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor([0.8])), nn.Parameter(torch.tensor([0.3]))

    def forward(self, x):
        x = (x - self.b) / self.a
        return self.a * (torch.sign(x) + self.b)


class CentredConv(nn.Conv2d, Binary):
    """Weights: the mean of a filter, plus or minus its deviation. The input's levels are made within."""

    def __init__(self, inputs, outputs, kernel, stride=1):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.levels = TwoLevels()

    def forward(self, x):
        flat = self.weight.reshape(self.weight.shape[0], -1)
        mean, deviation = flat.mean(-1).reshape(-1, 1, 1, 1), flat.std(-1).reshape(-1, 1, 1, 1)
        binary = torch.sign((self.weight - mean) / deviation) * deviation + mean
        return F.conv2d(self.levels(x), binary, None, self.stride, self.padding)


class Maxout(nn.Module):
    """Two slopes a channel, both learned."""

    def __init__(self, channels):
        super().__init__()
        self.positive = nn.Parameter(torch.full((1, channels, 1, 1), 1.1))
        self.negative = nn.Parameter(torch.full((1, channels, 1, 1), 0.3))

    def forward(self, x):
        return F.relu(x) * self.positive - F.relu(-x) * self.negative


class Block(nn.Module):
    """conv - BN, plus the shortcut, then Maxout; twice. A wider shortcut is padded with channels of zeros."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.conv2 = CentredConv(inputs, outputs, 3, stride), CentredConv(outputs, outputs, 3)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.act1, self.act2 = Maxout(outputs), Maxout(outputs)
        self.stride, self.extra = stride, (outputs - inputs) // 2

    def shortcut(self, x):
        if not self.extra:
            return x
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))

    def forward(self, x):
        x = self.act1(self.bn1(self.conv1(x)) + self.shortcut(x))
        return self.act2(self.bn2(self.conv2(x)) + x)


class AdaBin(nn.Module):
    """Three stages of two blocks."""

    def __init__(self, width=16, classes=10):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        widths = [(width, width, 1), (width, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 1)]
        widths += [(2 * width, 4 * width, 2), (4 * width, 4 * width, 1)]
        self.layers = nn.Sequential(*(Block(*shape) for shape in widths))
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x):
        x = self.layers(F.hardtanh(self.bn1(self.conv1(x))))
        return self.fc(F.avg_pool2d(x, x.size(3)).flatten(1))


def adabin():
    return AdaBin()
