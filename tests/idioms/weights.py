"""Binary weights: how they are made from real ones, stored, scaled and gated."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from tests.idioms.idiom import Conv, Idiom, generator, odd_eighths, powers, signs, up, weight
from tests.idioms.residue import clipped, polynomial, residue

FILTER = (1, 2, 3)


def filter_mean(w):
    """Mean magnitude a filter."""
    return w.abs().mean(FILTER, keepdim=True)


def nested_mean(w):
    """The same, one axis after the other."""
    return torch.mean(torch.mean(torch.mean(w.abs(), 3, True), 2, True), 1, True)


def norm_mean(w):
    """The same, by the 1-norm."""
    return w.reshape(w.shape[0], -1).norm(1, 1).div(w[0].nelement()).reshape(-1, 1, 1, 1)


def centred(w):
    """Without the mean of each filter."""
    return w - w.mean(FILTER, keepdim=True)


def standardised(w):
    """Mean 0 and deviation 1 in each filter."""
    return centred(w) / w.reshape(w.shape[0], -1).std(1).reshape(-1, 1, 1, 1)


def power_of_two(w):
    """The power of two next to the mean magnitude."""
    return 2.0 ** torch.round(torch.log2(filter_mean(w)))


def two_levels(w):
    """Two arbitrary levels a filter: its mean plus and minus its deviation."""
    flat = w.reshape(w.shape[0], -1)
    mean, deviation = (v.reshape(-1, 1, 1, 1) for v in (flat.mean(1), flat.std(1)))
    return deviation * torch.sign((w - mean) / deviation) + mean


def ternary(w):
    """{-1, 0, 1}: small weights are dropped."""
    return (w > 0.5).float() - (w < -0.5).float()


EXACT = {
    "sign(w)": torch.sign,
    "where(w >= 0, 1, -1)": up,
    "sign(clamp(w, -1, 1))": lambda w: torch.sign(torch.clamp(w, -1, 1)),
    "sign(tanh(w))": lambda w: torch.sign(torch.tanh(w)),
    "sign(w - mean)": lambda w: torch.sign(centred(w)),
    "sign((w - mean) / std)": lambda w: torch.sign(standardised(w)),
    "sign(w) * mean|w|, one a layer": lambda w: w.sign() * w.abs().mean(),
    "sign(w) * mean|w|, one a filter": lambda w: w.sign() * filter_mean(w),
    "sign(w) * |w|_1 / n": lambda w: w.sign().mul(norm_mean(w)),
    "sign(w) * 2^round(log2 mean|w|)": lambda w: power_of_two(w) * torch.sign(w),
    "where(w > 0, 1.5, -0.5), two levels": lambda w: torch.where(w > 0, 1.5, -0.5),
    "{0, 1} weights": lambda w: (w > 0).float(),
    "residue of a clip": residue(torch.sign, clipped),
    "residue of a polynomial": residue(torch.sign, polynomial),
    "residue of a clip, with scale": lambda w: residue(lambda v: filter_mean(v).detach() * v.sign(), clipped)(w),
    "residue of a clip, twice": lambda w: residue(torch.sign, clipped)(residue(torch.sign, clipped)(w)),
    "residue of the identity": lambda w: (w.sign() - w).detach() + w,
    "ternary {-1, 0, 1}": ternary,
    "round(clamp(w, -1, 1)), ternary": lambda w: torch.round(torch.clamp(w, -1, 1)),
    "flipped kernel": lambda w: torch.flip(torch.sign(w), (2, 3)),
}

# mean magnitudes and deviations that are no binary fractions: checks (a) and (b)
ROUNDED = {
    "sign(w) * mean|w|, nested means": lambda w: nested_mean(w) * torch.sign(w),
    "sign(w - mean) * mean|w - mean|": lambda w: torch.sign(centred(w)) * filter_mean(centred(w)),
    "AdaBin: std * sign((w - mean) / std) + mean": two_levels,
    "residue of a tanh": residue(torch.sign, torch.tanh),
    "residue of a clip, scale of any length": lambda w: residue(lambda v: 0.3 * v.sign(), clipped)(w),
    "residue of a tanh around a clip's": lambda w: residue(torch.sign, torch.tanh)(residue(torch.sign, clipped)(w)),
    "ternary, threshold 0.7 mean|w|": lambda w: torch.where(w.abs() > 0.7 * w.abs().mean(), torch.sign(w), 0.0) * 0.3,
}


class Offline(nn.Module):
    """A plain convolution whose parameter already holds the binary values."""

    def __init__(self, values, **options):
        super().__init__()
        self.layer = nn.Conv2d(values.shape[1], values.shape[0], values.shape[2:], bias=False, **options)
        with torch.no_grad():
            self.layer.weight.copy_(values)

    def forward(self, x):
        return self.layer(up(x))


class Flat(nn.Module):
    """Weights stored as one row and viewed."""

    def __init__(self):
        super().__init__()
        self.flat = nn.Parameter(weight(5, 6, 3, 3).reshape(-1))

    def forward(self, x):
        return F.conv2d(up(x), self.flat.view(5, 6, 3, 3).sign())


class Column(nn.Module):
    """The same as a column of random numbers, normalised before the sign, as in hyper-sphere training."""

    def __init__(self):
        super().__init__()
        self.column = nn.Parameter(torch.rand(5 * 54, 1, generator=generator(3)) * 0.001 - 0.0005)

    def forward(self, x):
        w = self.column.view(5, 6, 3, 3)
        return F.conv2d(up(x), torch.sign(w / w.norm()))


class SignOf(nn.Module):
    """A parametrisation."""

    def forward(self, w):
        return torch.sign(w) * filter_mean(w)


def parametrised():
    """A convolution whose weight is computed by torch's own parametrisation."""
    model = Offline(weight(5, 6, 3, 3))
    parametrize.register_parametrization(model.layer, "weight", SignOf())
    return model


def with_zeros():
    """Some latent weights are exactly 0, and so are their signs."""
    w = weight(5, 6, 3, 3)
    return torch.where(torch.rand(w.shape, generator=generator(5)) < 0.1, 0.0, w)


def dead_filter():
    """One filter holds nothing but zeros."""
    w = signs(5, 6, 3, 3) * powers(5).reshape(-1, 1, 1, 1)
    w[2] = 0
    return w


IDIOMS: dict[str, Idiom] = {
    **{name: Idiom(partial(Conv, rule=f, padding=1)) for name, f in EXACT.items()},
    **{name: Idiom(partial(Conv, rule=f, padding=1), exact=False) for name, f in ROUNDED.items()},
    "offline +-1": Idiom(lambda: Offline(signs(5, 6, 3, 3))),
    "offline +-alpha a filter": Idiom(lambda: Offline(signs(5, 6, 3, 3) * powers(5).reshape(-1, 1, 1, 1), padding=1)),
    "offline, two levels a filter": Idiom(
        lambda: Offline(signs(5, 6, 3, 3) * powers(5).reshape(-1, 1, 1, 1) + odd_eighths((5, 1, 1, 1)), padding=1)
    ),
    "offline, a dead filter": Idiom(lambda: Offline(dead_filter()), zeros="weights"),
    "stored flat and viewed": Idiom(Flat),
    "stored as a column, normalised": Idiom(Column),
    "torch's parametrisation": Idiom(parametrised),
    "sign(w), exact zeros in w": Idiom(lambda: Conv(latent=with_zeros(), padding=1), zeros="weights"),
    "sign(w) * mean|w|, exact zeros in w": Idiom(
        lambda: Conv(latent=with_zeros(), rule=lambda w: w.sign() * 0.5, padding=1), zeros="weights"
    ),
}
