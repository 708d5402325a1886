"""Shapes: kernels, strides, dilation, groups, channels that fill no word, maps of one pixel, shared modules."""

from functools import partial

import torch
from torch import nn

from tests.idioms.idiom import Conv, Idiom, batch_norm, up

KERNELS = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (7, 7), (1, 3), (3, 1), (5, 3), (2, 3), (1, 7)]
CHANNELS = [1, 3, 31, 32, 33, 63, 64, 65, 100]


def twice(x):
    """A two-level activation that zero padding disturbs."""
    return torch.where(x > 0, 1.5, -0.5)


class Shared(nn.Module):
    """One module, called on maps of different sizes, with one normalisation or one a call."""

    def __init__(self):
        super().__init__()
        self.inner = Conv(kernel=(6, 6, 3, 3), padding=1)
        self.first, self.second = batch_norm(6), batch_norm(6, seed=1)

    def forward(self, x):
        y = self.first(self.inner(x))
        y = y + self.second(self.inner(y))
        return self.inner(y[:, :, ::2, ::2])


class SharedDown(nn.Module):
    """Branches that share one 1x1 convolution on the way down (Group-Net)."""

    def __init__(self, branches=3):
        super().__init__()
        self.down = Conv(kernel=(8, 6, 1, 1), stride=2)
        self.branches = nn.ModuleList(Conv(kernel=(8, 6, 3, 3), stride=2, padding=1) for _ in range(branches))

    def forward(self, x):
        return sum(branch(x) + self.down(x) for branch in self.branches)


def grouped(groups, channels, filters, **options):
    """groups groups of channels / groups."""
    return Idiom(
        lambda: Conv(kernel=(filters, channels // groups, 3, 3), groups=groups, padding=1, **options),
        shapes=((1, channels, 6, 5),),
    )


def transposed(kernel=3, channels=6, filters=4, **options):
    """A transposed convolution, its weights [I, O / groups, KH, KW]."""

    def make():
        torch.manual_seed(2)
        layer = nn.ConvTranspose2d(channels, filters, kernel, bias=False, **options)
        with torch.no_grad():
            layer.weight.copy_(torch.where(layer.weight >= 0, 1.0, -1.0))
        return BeforeIt(layer)

    return Idiom(make, shapes=((1, channels, 5, 4),), data="zeros")


class BeforeIt(nn.Module):
    """A sign before a layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(up(x))


IDIOMS: dict[str, Idiom] = {
    **{
        f"kernel {height}x{width}": Idiom(
            partial(Conv, twice, kernel=(5, 6, height, width), padding=(height // 2, width // 2))
        )
        for height, width in KERNELS
    },
    **{
        f"{channels} channels": Idiom(
            partial(Conv, kernel=(7, channels, 3, 3), padding=1), shapes=((1, channels, 6, 5),)
        )
        for channels in CHANNELS
    },
    **{
        f"{filters} filters": Idiom(partial(Conv, kernel=(filters, 6, 3, 3), padding=1))
        for filters in (1, 31, 33, 65)
    },
    "dilation 2": Idiom(lambda: Conv(twice, dilation=2, padding=2)),
    "dilation 3x1": Idiom(lambda: Conv(twice, dilation=(3, 1), padding=(3, 1))),
    "dilation 6 on a small map": Idiom(lambda: Conv(dilation=6, padding=6)),
    "stride 2": Idiom(lambda: Conv(twice, stride=2, padding=1)),
    "stride 3": Idiom(lambda: Conv(stride=3, padding=1)),
    "stride 3x2": Idiom(lambda: Conv(twice, stride=(3, 2))),
    "stride 2 of 1x1": Idiom(lambda: Conv(kernel=(8, 6, 1, 1), stride=2)),
    "a map of one pixel, 1x1": Idiom(lambda: Conv(kernel=(8, 6, 1, 1)), shapes=((2, 6, 1, 1),)),
    "a map of one pixel, 3x3": Idiom(lambda: Conv(twice, padding=1), shapes=((2, 6, 1, 1),)),
    "a map of one row": Idiom(lambda: Conv(twice, padding=1), shapes=((1, 6, 1, 9),)),
    "a kernel as large as the map": Idiom(lambda: Conv(kernel=(5, 6, 7, 9))),
    "batch of 5": Idiom(lambda: Conv(padding=1), shapes=((5, 6, 4, 3),)),
    "depthwise": grouped(6, 6, 6),
    "depthwise, 33 channels": grouped(33, 33, 33),
    "depthwise, two filters a channel": grouped(6, 6, 12),
    "depthwise, stride 2": grouped(6, 6, 6, stride=2),
    "2 groups": grouped(2, 6, 4),
    "2 groups of 33": grouped(2, 66, 6),
    "4 groups of 32": grouped(4, 128, 8),
    "8 groups, dilation 2": grouped(8, 16, 16, dilation=2),
    "one module, three calls": Idiom(Shared, shapes=((1, 6, 8, 6),)),
    "one 1x1 on the way down of three branches": Idiom(SharedDown),
    "transposed 3x3": transposed(),
    "transposed 2x2, stride 2": transposed(2, stride=2),
    "transposed 4x4, stride 2, padding 1": transposed(4, stride=2, padding=1),
    "transposed 3x3, stride 2, output padding": transposed(3, stride=2, padding=1, output_padding=1),
    "transposed 3x3, dilation 2": transposed(3, dilation=2, padding=1),
    "transposed 3x3, 2 groups": transposed(3, groups=2, stride=2),
    "transposed, 33 channels": transposed(2, channels=33, stride=2),
}
