"""IR-Net: balanced and standardised weights, scaled by a power of two; an adaptive gradient in both signs."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.common import Binary, ResNet18


class AdaptiveSign(torch.autograd.Function):
    """sign forward; backward k * t * (1 - tanh(t x)^2) with k and t that change over training."""

    @staticmethod
    def forward(ctx, x, k, t):
        ctx.save_for_backward(x, k, t)
        return torch.sign(x)

    @staticmethod
    def backward(ctx, gradient):
        x, k, t = ctx.saved_tensors
        return k * t * (1 - torch.tanh(x * t) ** 2) * gradient, None, None


class BalancedConv(nn.Conv2d, Binary):
    """Signs of standardised weights, the input's sign within."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options, bias=False)
        self.register_buffer("k", torch.tensor([10.0]))
        self.register_buffer("t", torch.tensor([0.1]))

    def forward(self, x):
        w = self.weight
        centred = w - w.view(w.size(0), -1).mean(-1).view(w.size(0), 1, 1, 1)
        balanced = centred / centred.view(w.size(0), -1).std(-1).view(w.size(0), 1, 1, 1)
        magnitude = balanced.abs().view(w.size(0), -1).mean(-1)
        shift = torch.pow(2 * torch.ones(w.size(0)), (torch.log(magnitude) / torch.log(torch.tensor(2.0))).round())
        binary = AdaptiveSign.apply(balanced, self.k, self.t) * shift.view(w.size(0), 1, 1, 1).detach()
        return F.conv2d(
            AdaptiveSign.apply(x, self.k, self.t), binary, None, self.stride, self.padding, self.dilation, self.groups
        )


class Block(nn.Module):
    """conv - BN, plus the shortcut, then hardtanh; twice."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = BalancedConv(inputs, outputs, 3, stride, 1)
        self.conv2 = BalancedConv(outputs, outputs, 3, 1, 1)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(BalancedConv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        x = F.hardtanh(self.bn1(self.conv1(x)) + self.shortcut(x))
        return F.hardtanh(self.bn2(self.conv2(x)) + x)


def irnet10():
    return ResNet18(Block, count=1)
