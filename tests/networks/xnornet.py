"""XNOR-Net, an AlexNet: BN before the sign, ReLU behind the convolution, weights stored offline as +-alpha."""

import torch
from torch import nn

from tests.networks.common import Binary


class BlockConv(nn.Conv2d, Binary):
    """A plain convolution; `store_signs` puts the binary values into its parameter."""


class BlockLinear(nn.Linear, Binary):
    """A plain linear layer, likewise."""


class Sign(torch.autograd.Function):
    """The sign; XNOR-Net's gradient is clipped."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient.masked_fill(x.ge(1) | x.le(-1), 0)


class Block(nn.Module):
    """BN - sign - convolution or linear layer - ReLU."""

    def __init__(self, layer, linear=False):
        super().__init__()
        features = layer.in_features if linear else layer.in_channels
        kind = nn.BatchNorm1d if linear else nn.BatchNorm2d
        self.bn, self.layer, self.relu = kind(features, eps=1e-4, momentum=0.1), layer, nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.layer(Sign.apply(self.bn(x))))


class XnorNet(nn.Module):
    """Eleven by eleven stem, two pools, grouped convolutions, two binary linear layers."""

    def __init__(self, width=16, classes=10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 11, 4),
            nn.BatchNorm2d(width, eps=1e-4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            Block(BlockConv(width, 3 * width, 5, padding=2, groups=1)),
            nn.MaxPool2d(3, 2),
            Block(BlockConv(3 * width, 4 * width, 3, padding=1)),
            Block(BlockConv(4 * width, 4 * width, 3, padding=1, groups=2)),
            Block(BlockConv(4 * width, 3 * width, 3, padding=1, groups=2)),
        )
        self.classifier = nn.Sequential(
            Block(BlockLinear(3 * width * 3 * 3, 100), linear=True),
            Block(BlockLinear(100, 64), linear=True),
            nn.BatchNorm1d(64),
            nn.Linear(64, classes),
        )

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def store_signs(model):
    """What the training script does before it saves: centre, clip, and keep sign times mean magnitude."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, BlockConv | BlockLinear):
                axes = tuple(range(1, layer.weight.dim()))
                w = (layer.weight - layer.weight.mean(1, keepdim=True)).clamp(-1, 1)
                layer.weight.copy_(w.sign() * w.abs().mean(axes, keepdim=True))
    return model


def xnornet():
    return XnorNet()
