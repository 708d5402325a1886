"""The order of normalisation, activation, sign and convolution, and what gamma may be.

Where a binary layer follows a binary layer, all that lies between becomes a predicate on the integer sum. The second
layer is what shows whether it is right: its input is one bit for each of the first layer's sums.
"""

import torch
import torch.nn.functional as F
from torch import nn

from tests.idioms.idiom import Conv, Idiom, PerChannel, Sequence, batch_norm, odd_eighths, up

TINY = 2.0**-20


class RPReLU(nn.Module):
    """Shift, PReLU, shift (ReActNet)."""

    def __init__(self, channels, slopes=(0.25, 0.5)):
        super().__init__()
        self.before, self.behind = (PerChannel(shift=odd_eighths((channels,), seed)) for seed in (1, 2))
        self.act = prelu(channels, slopes)

    def forward(self, x):
        return self.behind(self.act(self.before(x)))


def prelu(channels, slopes=(0.25, 0.5)):
    """A PReLU with a slope a channel."""
    layer = nn.PReLU(channels)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(slopes)[torch.arange(channels) % len(slopes)])
    return layer


def chain(**between):
    """Binary convolution, what is between, sign, binary convolution."""
    return Sequence(first=Conv(padding=1), **between, second=Conv(kernel=(4, 5, 3, 3), padding=1))


def chained(make):
    """The same as a factory; make : returns what is between."""
    return lambda: chain(**make())


class Residual(nn.Module):
    """A block as residual binary networks have it: the real value goes around the sign."""

    def __init__(self, act_first=False):
        super().__init__()
        self.inner = Conv(kernel=(6, 6, 3, 3), padding=1)
        self.bn, self.act = batch_norm(6), nn.ReLU()
        self.act_first = act_first

    def forward(self, x):
        y = self.inner(x)
        y = self.bn(self.act(y)) if self.act_first else self.act(self.bn(y))
        return y + x


BETWEEN = {
    "conv-BN-sign": lambda: {"bn": batch_norm(5)},
    "conv-BN-ReLU-sign(x - b)": lambda: {"bn": batch_norm(5), "act": F.relu, "shift": PerChannel(shift=[-0.3125] * 5)},
    "conv-BN-PReLU": lambda: {"bn": batch_norm(5), "act": prelu(5)},
    "conv-BN-PReLU, negative slopes": lambda: {
        "bn": batch_norm(5),
        "act": prelu(5, (-0.5, 0.25, -1.0)),
        "shift": PerChannel(shift=[-0.3125] * 5),
    },
    "conv-BN-LeakyReLU": lambda: {"bn": batch_norm(5), "act": nn.LeakyReLU(0.25)},
    "conv-BN-RPReLU": lambda: {"bn": batch_norm(5), "act": RPReLU(5)},
    "conv-BN-hardtanh": lambda: {"bn": batch_norm(5), "act": F.hardtanh},
    "conv-BN-hardtanh, threshold on a plateau": lambda: {
        "bn": batch_norm(5),
        "act": F.hardtanh,
        "shift": PerChannel(shift=[-1.0, 1.0, 0.5, -0.5, 0.0]),
    },
    "conv-ReLU-BN": lambda: {"act": F.relu, "bn": batch_norm(5)},
    "conv-PReLU-BN": lambda: {"act": prelu(5), "bn": batch_norm(5)},
    "conv-PReLU-BN, negative slopes": lambda: {"act": prelu(5, (-0.5, 0.25, -1.0)), "bn": batch_norm(5)},
    "conv-hardtanh-BN": lambda: {"act": F.hardtanh, "bn": batch_norm(5)},
    "conv-scale-bias-BN-act": lambda: {
        "scale": PerChannel([0.5, 0.25, 2.0, -1.0, 1.0], odd_eighths((5,))),
        "bn": batch_norm(5),
        "act": prelu(5),
    },
    "conv-BN-BN": lambda: {"bn": batch_norm(5), "again": batch_norm(5, seed=1)},
    "conv-BN-maxpool-sign": lambda: {"bn": batch_norm(5), "pool": nn.MaxPool2d(2)},
    "conv-BN-ReLU-maxpool": lambda: {"bn": batch_norm(5), "act": F.relu, "pool": nn.MaxPool2d(2)},
    "conv-BN-abs": lambda: {"bn": batch_norm(5), "act": torch.abs, "shift": PerChannel(shift=[-0.8125] * 5)},
    "gamma negative": lambda: {"bn": batch_norm(5, [-0.5, -1.0, -2.0])},
    "gamma zero": lambda: {"bn": batch_norm(5, [0.0, 1.0, 0.0, -1.0])},
    "gamma tiny": lambda: {"bn": batch_norm(5, [TINY, -TINY])},
    "gamma huge": lambda: {"bn": batch_norm(5, [2.0**20, -(2.0**20)])},
    "affine=False": lambda: {"bn": nn.BatchNorm2d(5, eps=0.25, affine=False), "shift": PerChannel(shift=[0.125] * 5)},
}

IDIOMS: dict[str, Idiom] = {
    **{name: Idiom(chained(make)) for name, make in BETWEEN.items()},
    "BN-sign-conv-ReLU (XNOR-Net)": Idiom(lambda: Sequence(bn=batch_norm(6), inner=Conv(padding=1), act=F.relu)),
    "BN-sign-conv-ReLU, twice": Idiom(
        lambda: Sequence(
            bn=batch_norm(6),
            inner=Conv(padding=1),
            act=F.relu,
            bn2=batch_norm(5, seed=2),
            inner2=Conv(kernel=(4, 5, 3, 3), padding=1),
        )
    ),
    "conv-BN-ReLU plus residual": Idiom(lambda: Sequence(first=Residual(), second=Residual())),
    "conv-ReLU-BN plus residual (Group-Net)": Idiom(lambda: Sequence(first=Residual(True), second=Residual(True))),
    "conv-BN-act at the end": Idiom(lambda: Sequence(inner=Conv(padding=1), bn=batch_norm(5), act=prelu(5))),
    "BN in training mode's leftovers: momentum None": Idiom(
        lambda: chain(bn=nn.BatchNorm2d(5, eps=0.25, momentum=None).eval(), shift=PerChannel(shift=[0.125] * 5)),
        exact=False,
    ),
    "sign without BN: conv-where(x >= 0)": Idiom(lambda: chain()),
    "float stem, BN, then binary": Idiom(
        lambda: Sequence(stem=nn.Conv2d(6, 8, 3, padding=1), bn=batch_norm(8), inner=Conv(up, kernel=(5, 8, 3, 3))),
        exact=False,
    ),
}
