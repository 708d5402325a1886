"""Blocks as two layer libraries write them: bitorch (dense blocks, padding -1) and Brevitas (scaled signs, VGG)."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.common import Binary


class ClippedSign(torch.autograd.Function):
    """The sign of bitorch's layers: 0 goes to +1."""

    @staticmethod
    def forward(ctx, x, threshold=1.0):
        ctx.save_for_backward(x)
        signs = torch.sign(x)
        return torch.where(signs == 0, torch.tensor(1.0), signs)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.where(x.abs() > 1, torch.tensor(0.0), gradient), None


class Quantization(nn.Module):
    """A quantizer that a layer holds as a part of itself."""

    def forward(self, x):
        return ClippedSign.apply(x, 1.0)


class QConv(nn.Conv2d, Binary):
    """Quantizes its input, pads it with -1, quantizes its weights."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options, bias=False)
        self.activation, self.quantization = Quantization(), Quantization()

    def forward(self, x):
        x = F.pad(self.activation(x), self._reversed_padding_repeated_twice, mode="constant", value=-1)
        return F.conv2d(x, self.quantization(self.weight), self.bias, self.stride, 0, self.dilation, self.groups)


class DenseLayer(nn.Module):
    """New channels beside all that came before."""

    def __init__(self, channels, growth, dilation=1):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = QConv(channels, growth, 3, padding=dilation, dilation=dilation)

    def forward(self, x):
        return torch.cat([x, self.conv(self.bn(x))], 1)


class Improve(nn.Module):
    """MeliusNet's second half: the newest channels get a correction, the others pass."""

    def __init__(self, channels, growth):
        super().__init__()
        self.bn, self.growth = nn.BatchNorm2d(channels), growth
        self.conv = QConv(channels, growth, 3, padding=1)

    def forward(self, x):
        kept = x.shape[1] - self.growth
        return torch.cat([x[:, :kept], x[:, kept:] + self.conv(self.bn(x))], 1)


class DenseNet(nn.Module):
    """Dense and improvement layers, a real 1x1 transition, once more."""

    def __init__(self, width=32, growth=16, classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.first = nn.Sequential(
            DenseLayer(width, growth), Improve(width + growth, growth), DenseLayer(width + growth, growth)
        )
        middle = width + 2 * growth
        self.transition = nn.Sequential(
            nn.BatchNorm2d(middle), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(middle, width, 1, bias=False)
        )
        self.second = nn.Sequential(DenseLayer(width, growth, 2), DenseLayer(width + growth, growth))
        self.bn, self.fc = nn.BatchNorm2d(middle), nn.Linear(middle, classes)

    def forward(self, x):
        x = self.second(self.transition(self.first(self.stem(x))))
        return self.fc(F.relu(self.bn(x)).mean((2, 3)))


class BinarySign(torch.autograd.Function):
    """0 goes to +1, by two comparisons; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx, x):
        return torch.ge(x, 0.0).type(x.dtype) - torch.lt(x, 0.0).type(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class BinaryQuant(nn.Module):
    """A clamp to the scale, a sign, the scale: a fake-quantized value."""

    def __init__(self, scale):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("zero_point", torch.tensor(0.0))

    def forward(self, x):
        clamped = torch.where(x > self.scale, self.scale, torch.where(x < -self.scale, -self.scale, x))
        return BinarySign.apply(clamped) * self.scale + self.zero_point


class QuantConv(nn.Conv2d, Binary):
    """Weights through the quantizer."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options, bias=False)
        self.weight_quant = BinaryQuant(0.125)

    def forward(self, x):
        return self._conv_forward(x, self.weight_quant(self.weight), None)


class QuantLinear(nn.Linear, Binary):
    """The same for a linear layer."""

    def __init__(self, *arguments):
        super().__init__(*arguments, bias=False)
        self.weight_quant = BinaryQuant(0.125)

    def forward(self, x):
        return F.linear(x, self.weight_quant(self.weight))


class Vgg(nn.Module):
    """Unpadded 3x3 convolutions with a quantizer behind each normalisation; linear layers at the end."""

    def __init__(self, width=16, classes=10):
        super().__init__()
        parts = [nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width, eps=1e-4), BinaryQuant(0.5)]
        before = width
        for channels, pool in ((width, True), (2 * width, False), (2 * width, True), (4 * width, False)):
            parts += [QuantConv(before, channels, 3), nn.BatchNorm2d(channels, eps=1e-4), BinaryQuant(0.5)]
            parts += [nn.MaxPool2d(2)] if pool else []
            before = channels
        self.features = nn.Sequential(*parts)
        self.linear = nn.Sequential(
            QuantLinear(4 * width * 3 * 3, 64),
            nn.BatchNorm1d(64, eps=1e-4),
            BinaryQuant(0.5),
            QuantLinear(64, classes),
            nn.BatchNorm1d(classes),
        )

    def forward(self, x):
        return self.linear(self.features(2.0 * x - 1.0).flatten(1))


def bitorch_style():
    return DenseNet()


def brevitas_style():
    return Vgg()
