"""Padding: with 0 (a third level for +-1), +1, -1 or a level, on any side, as an attribute or as a node."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.idioms.idiom import Conv, Idiom, up
from tests.idioms.residue import clipped, residue


def padded(activation, widths, value=0.0, mode="constant"):
    """activation, then a pad node."""
    if mode == "constant":
        return lambda x: F.pad(activation(x), widths, value=value)
    return lambda x: F.pad(activation(x), widths, mode=mode)


def before(widths, activation=up):
    """A pad node with zeros, then the sign: the zeros get a sign too."""
    return lambda x: activation(F.pad(x, widths))


def bits(x):
    """{0, 1}."""
    return (x > 0).float()


def levels(x):
    """Two arbitrary levels."""
    return torch.where(x > 0, 1.5, -0.5)


def ternary(x):
    """{-1, 0, 1}."""
    return torch.round(torch.clamp(x, -1, 1))


def two_bits(x):
    """{0, 1, 2, 3}."""
    return torch.round(torch.clamp(x, 0, 1) * 3)


class OwnPad(nn.Module):
    """A pad module of torch.nn between sign and convolution."""

    def __init__(self, pad):
        super().__init__()
        self.pad, self.inner = pad, Conv(activation=nn.Identity())

    def forward(self, x):
        return self.inner(self.pad(up(x)))


AROUND = (1, 1, 1, 1)

IDIOMS: dict[str, Idiom] = {
    "0 as attribute, {-1, +1}": Idiom(lambda: Conv(padding=1)),
    "0 as attribute, {0, 1}": Idiom(lambda: Conv(bits, padding=1)),
    "0 as attribute, two levels": Idiom(lambda: Conv(levels, padding=1)),
    "0 as attribute, ternary": Idiom(lambda: Conv(ternary, padding=1)),
    "0 as attribute, 2 bits": Idiom(lambda: Conv(two_bits, padding=1)),
    "0 as attribute, rectangular": Idiom(lambda: Conv(padding=(0, 1))),
    "0 as attribute, 'same'": Idiom(lambda: Conv(padding="same")),
    "0 as attribute, wider than the kernel reaches": Idiom(lambda: Conv(padding=4)),
    "0 as a node": Idiom(lambda: Conv(padded(up, AROUND))),
    "+1 as a node (Group-Net)": Idiom(lambda: Conv(padded(up, AROUND, 1.0))),
    "-1 as a node (bitorch)": Idiom(lambda: Conv(padded(up, AROUND, -1.0))),
    "+1 as nn.ConstantPad2d": Idiom(lambda: OwnPad(nn.ConstantPad2d(1, 1.0))),
    "0 as nn.ZeroPad2d, asymmetric": Idiom(lambda: OwnPad(nn.ZeroPad2d((0, 1, 2, 0)))),
    "asymmetric, 0": Idiom(lambda: Conv(padded(up, (2, 0, 1, 3)))),
    "asymmetric, -1": Idiom(lambda: Conv(padded(up, (2, 0, 1, 3), -1.0))),
    "asymmetric, stride 2": Idiom(lambda: Conv(padded(up, (0, 1, 0, 1)), stride=2)),
    "a level of its own, node": Idiom(lambda: Conv(padded(levels, AROUND, 1.5))),
    "0.5 around {0, 1}, node": Idiom(lambda: Conv(padded(bits, AROUND, 0.5))),
    "node of +1 and attribute of 0": Idiom(lambda: Conv(padded(up, AROUND, 1.0), padding=1)),
    "residue, then +1": Idiom(lambda: Conv(padded(residue(up, clipped), AROUND, 1.0))),
    "reflected": Idiom(lambda: Conv(padded(up, AROUND, mode="reflect"))),
    "replicated": Idiom(lambda: Conv(padded(up, AROUND, mode="replicate"))),
    "cropped by a negative pad": Idiom(lambda: Conv(padded(up, (-1, -1, 0, -1)), padding=1)),
    "0 before the sign (x >= 0)": Idiom(lambda: Conv(before(AROUND)), data="zeros"),
    "0 before the sign (x > 0)": Idiom(
        lambda: Conv(before(AROUND, lambda x: torch.where(x > 0, 1.0, -1.0))), data="zeros"
    ),
    "0 before relu(sign(x))": Idiom(lambda: Conv(before(AROUND, lambda x: F.relu(torch.sign(x)))), data="zeros"),
}
