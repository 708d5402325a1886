"""Exact zeros: where they are common they stay a third level, where they are a rare accident a convention decides."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.idioms.idiom import Conv, Idiom, PerChannel, Sequence, Whole, batch_norm, signs, up

W = signs(5, 6, 3, 3)


def kept(make, **options):
    """An idiom whose zeros are expected to stay."""
    return Idiom(make, zeros="kept", **options)


def chain(**between):
    """Binary convolution, what is between, torch.sign, binary convolution."""
    return Sequence(first=Conv(padding=1), **between, second=Conv(torch.sign, kernel=(4, 5, 3, 3), padding=1))


class TwoBranches(nn.Module):
    """The sum of two integer sums."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Conv(), Conv(lambda x: up(-x), latent=signs(5, 6, 3, 3, seed=3))
        self.third = Conv(torch.sign, kernel=(4, 5, 1, 1))

    def forward(self, x):
        return self.third(self.first(x) + self.second(x))


def attention_scores(q, k, v):
    """The sign of a score: 0 in one of ten scores of 64 terms."""
    return torch.matmul(torch.sign(torch.matmul(up(q), up(k).transpose(-1, -2))), up(v))


def masked(x, y):
    """sign(mask * x), the mask {0, 1}."""
    return F.conv2d(torch.sign((y > 0).float() * x), W, padding=1)


def attended(x, y):
    """A binary attention map through ReLU, times a real branch."""
    return F.conv2d(torch.sign(F.relu(up(y)) * x), W, padding=1)


def sum_of_relus(x, y):
    """0 wherever both are."""
    return F.conv2d(torch.sign(F.relu(x) + F.relu(y)), W, padding=1)


def mask_of_sign(x, y):
    """The mask behind the sign: 0 is a level of the product whatever sign(0) is."""
    return F.conv2d((y > 0).float() * torch.sign(x), W, padding=1)


def beside_a_comparison(x, y):
    """Two levels both, once a convention has decided."""
    return F.conv2d(F.max_pool2d(torch.cat([torch.sign(x[:, :3]), up(y[:, 3:])], 1), 2), W, padding=1)


PAIR = ((1, 6, 5, 6), (1, 6, 5, 6))

IDIOMS: dict[str, Idiom] = {
    "conv -> sign, without BN": kept(chain),
    "conv of {0, 1} -> sign, without BN": kept(
        lambda: Sequence(
            first=Conv(lambda x: (x > 0).float(), padding=1), second=Conv(torch.sign, kernel=(4, 5, 3, 3), padding=1)
        )
    ),
    "conv -> scale -> sign": kept(lambda: chain(scale=PerChannel([0.5, -0.25, 2.0, 1.0, -1.0]))),
    "conv -> ReLU -> sign, which is {0, 1}": Idiom(lambda: chain(act=F.relu)),
    "conv -> max-pool -> sign": kept(lambda: chain(pool=nn.MaxPool2d(2))),
    "conv -> BN -> sign, a real threshold": Idiom(lambda: chain(bn=batch_norm(5)), zeros="guessed"),
    "conv -> BN -> sign, an integer threshold, exact": kept(lambda: chain(bn=on_the_grid(5)), sign_zero="exact"),
    "conv + conv -> sign": kept(TwoBranches),
    "average of signs -> sign": kept(lambda: Conv(lambda x: torch.sign(F.avg_pool2d(up(x), 2)), padding=1)),
    "difference of signs -> sign": Idiom(lambda: Conv(lambda x: torch.sign(up(x) - up(x - 0.75)), padding=1)),
    "sign(mask * x)": kept(lambda: Whole(masked), shapes=PAIR),
    "sign(relu(sign(y)) * x)": kept(lambda: Whole(attended), shapes=PAIR),
    "mask * sign(x)": kept(lambda: Whole(mask_of_sign), shapes=PAIR, data="zeros"),
    "sign(x) * (|x| > t), ternary": kept(
        lambda: Conv(lambda x: torch.sign(x) * (x.abs() > 0.5).float(), padding=1), data="zeros"
    ),
    "max-pool of sign(x) beside (y >= 0)": Idiom(lambda: Whole(beside_a_comparison), shapes=PAIR, zeros="guessed"),
    "padding before the sign": kept(lambda: Conv(lambda x: torch.sign(F.pad(x, (1, 1, 1, 1))))),
    "sign(relu(x))": Idiom(lambda: Conv(lambda x: torch.sign(F.relu(x)), padding=1), data="zeros"),
    "sign(relu(x) + relu(y))": kept(lambda: Whole(sum_of_relus), shapes=PAIR, data="zeros"),
    "sign(clamp(x, min=0))": Idiom(lambda: Conv(lambda x: torch.sign(x.clamp(min=0)), padding=1), data="zeros"),
    "sign(threshold(x, a, 0))": Idiom(
        lambda: Conv(lambda x: torch.sign(F.threshold(x, 0.75, 0.0)), padding=1), data="zeros"
    ),
    "sign of an attention score": kept(
        lambda: Whole(attention_scores), shapes=((1, 2, 5, 16), (1, 2, 7, 16), (1, 2, 7, 9))
    ),
    "torch.sign(x), --sign-zero exact": Idiom(
        lambda: Conv(torch.sign, padding=1), data="masked", zeros="kept", sign_zero="exact"
    ),
    "torch.sign(x), --sign-zero minus": Idiom(lambda: Conv(torch.sign, padding=1), zeros="guessed", sign_zero="minus"),
    "(x >= 0), --sign-zero minus": Idiom(lambda: Conv(padding=1), data="zeros", sign_zero="minus"),
}


def on_the_grid(channels):
    """A normalisation whose threshold is an integer, so that sums can meet it exactly."""
    layer = batch_norm(channels)
    with torch.no_grad():
        layer.bias.zero_()
    return layer
