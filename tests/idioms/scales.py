"""Scales: one a layer, one a filter, one a sample; before the convolution or after it."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.idioms.idiom import Conv, Idiom, PerChannel, Sequence, powers, signs, up
from tests.idioms.weights import filter_mean

POWERS = powers(5).reshape(-1, 1, 1, 1)


class AlphaAfter(nn.Module):
    """The mean magnitude of the latent weights, multiplied in behind the convolution."""

    def __init__(self, **options):
        super().__init__()
        self.inner = Conv(**options)

    def forward(self, x):
        return self.inner(x) * filter_mean(self.inner.weight).reshape(1, -1, 1, 1)


class PerSample(nn.Module):
    """sign(x) times the mean magnitude of each sample: the factor is [N, 1, 1, 1] and leaves the sum.

    behind : multiply it in after the convolution.
    """

    def __init__(self, behind=False):
        super().__init__()
        self.inner, self.behind = Conv(activation=nn.Identity(), padding=1), behind

    def forward(self, x):
        beta = x.abs().amax((1, 2, 3), keepdim=True)
        return self.inner(up(x)) * beta if self.behind else self.inner(up(x) * beta)


class PerSampleMean(nn.Module):
    """The same with the mean, which is no binary fraction."""

    def __init__(self):
        super().__init__()
        self.inner = Conv(activation=nn.Identity(), padding=1)

    def forward(self, x):
        return self.inner(up(x) * x.abs().mean((1, 2, 3), keepdim=True))


class ScaleMap(nn.Module):
    """XNOR-Net's K: the averaged magnitude of the input under each window, multiplied in behind the convolution."""

    def __init__(self):
        super().__init__()
        self.inner = Conv(rule=lambda w: w.sign() * filter_mean(w), padding=1)

    def forward(self, x):
        return self.inner(x) * F.avg_pool2d(x.abs().mean(1, keepdim=True), 3, 1, 1)


IDIOMS: dict[str, Idiom] = {
    "a scalar after the convolution": Idiom(lambda: Conv(after=lambda y: y * 0.375, padding=1)),
    "a scalar before the convolution": Idiom(lambda: Conv(lambda x: up(x) * 0.375, padding=1)),
    "scalars before and after": Idiom(lambda: Conv(lambda x: up(x) * 0.5, after=lambda y: y * 0.25)),
    "one a filter, after": Idiom(lambda: Conv(after=PerChannel(powers(5)), padding=1)),
    "one a filter, of both signs": Idiom(lambda: Conv(after=PerChannel(powers(5) * signs(5)))),
    "one a filter, in the weights and after": Idiom(
        lambda: Conv(rule=lambda w: w.sign() * filter_mean(w), after=PerChannel(powers(5)))
    ),
    "powers of two in the weights": Idiom(lambda: Conv(rule=lambda w: w.sign() * POWERS)),
    "the weights' mean, after": Idiom(lambda: AlphaAfter(padding=1)),
    "bias and scale": Idiom(lambda: Conv(after=PerChannel(powers(5), [0.5, -1.0, 0.25, 2.0, 0.0]))),
    "the convolution's own bias": Idiom(lambda: Conv(bias=torch.tensor([0.5, -1.0, 0.25, 2.0, 0.0]), padding=1)),
    "a learned scalar before, negative": Idiom(lambda: Conv(Sequence(sign=up, scale=PerChannel([-0.5])))),
    "one a sample, before (factors out)": Idiom(PerSample),
    "one a sample, after": Idiom(lambda: PerSample(behind=True)),
    "one a sample, its mean magnitude": Idiom(PerSampleMean, exact=False),
    "XNOR-Net: a map of magnitudes, after": Idiom(ScaleMap, exact=False),
}
