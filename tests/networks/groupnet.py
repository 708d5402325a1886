"""Group-Net on a ResNet-18, K = 5: five binary branches a block, merged by their mean, with soft gates."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.common import Binary

BRANCHES = 5


class PlusPaddedConv(nn.Conv2d, Binary):
    """Activations x.sign(), padded with +1; weights w.sign() * mean|w|, one scale a layer."""

    def forward(self, x):
        across, down = self.padding[1], self.padding[0]
        x = F.pad(x.sign(), (across, across, down, down), value=1.0)
        w = self.weight.sign() * self.weight.abs().mean()
        return F.conv2d(x, w, None, self.stride, 0, self.dilation, self.groups)


def conv(inputs, outputs, kernel=3, stride=1):
    return PlusPaddedConv(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class Branch(nn.Module):
    """sign - conv - ReLU - BN, plus a real shortcut; twice."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.conv2 = conv(inputs, outputs, stride=stride), conv(outputs, outputs)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)

    def forward(self, x, shortcut):
        y = self.bn1(F.relu(self.conv1(x))) + shortcut
        return self.bn2(F.relu(self.conv2(y))) + y


class Stage(nn.Module):
    """The branches of one block; the convolution on the way down is shared by all.

    gated : a soft gate mixes each branch's input with the sum of all branches.
    """

    def __init__(self, inputs, outputs, stride, gated, branches=BRANCHES):
        super().__init__()
        self.branches = nn.ModuleList(Branch(inputs, outputs, stride) for _ in range(branches))
        self.down = None
        if stride != 1 or inputs != outputs:
            self.down = nn.Sequential(conv(inputs, outputs, 1, stride), nn.ReLU(), nn.BatchNorm2d(outputs))
        self.gate = nn.Parameter(torch.zeros(1)) if gated else None

    def forward(self, xs):
        if self.gate is not None:
            a, total = torch.sigmoid(self.gate), sum(xs)
            xs = [a * x + (1 - a) * total for x in xs]
        return [branch(x, x if self.down is None else self.down(x)) for branch, x in zip(self.branches, xs)]


class GroupNet(nn.Module):
    """A ResNet-18 whose residual blocks are decomposed."""

    def __init__(self, width=8, classes=10, branches=BRANCHES, blocks=2):
        super().__init__()
        self.branches = branches
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        stages, before = [], width
        for index in range(4):
            for block in range(blocks):
                stride = 2 if index and not block else 1
                stages.append(Stage(before, width << index, stride, gated=bool(stages), branches=branches))
                before = width << index
        self.stages = nn.ModuleList(stages)
        self.fc = nn.Linear(before, classes)

    def forward(self, x):
        xs = [self.stem(x)] * self.branches
        for stage in self.stages:
            xs = stage(xs)
        merged = torch.stack(xs).mean(0)
        return self.fc(F.adaptive_avg_pool2d(merged, 1).flatten(1))


def groupnet18():
    return GroupNet()
