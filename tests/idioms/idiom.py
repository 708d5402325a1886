"""One way of writing something binary, what should become of it, and the pieces that the idioms are written with.

All numbers are short binary fractions wherever an idiom allows it. Sums of them are exact in float32 whatever their
order, so that PyTorch, the imported graph, the optimized graph and the artifact must agree in every bit.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, ...]

#: Layers in modules of these names are not under test: a real stem, a real head.
EXEMPT = ("stem", "head")


@dataclass(frozen=True)
class Idiom:
    """A module and its expected outcome.

    make : builds the module, the same one each time.
    decision : of the layers outside modules named as in EXEMPT, each different one once: "binary", "float", or both
        in the order of the layers ("binary, float").
    reason : words of which each must be in the reason of a float layer; "a|b" accepts either.
    shapes : of the inputs.
    data : a key of DATA.
    exact : whether all numbers are short binary fractions.
    zeros : what is expected to be said of zeros: "" (nothing), "guessed", "kept" or "weights".
    sign_zero : the convention to compile with.
    """

    make: Callable[[], nn.Module]
    decision: str = "binary"
    reason: tuple[str, ...] = ()
    shapes: tuple[Shape, ...] = ((2, 6, 7, 9),)
    data: str = "real"
    exact: bool = True
    zeros: str = ""
    sign_zero: str = "plus"

    def inputs(self) -> list[Tensor]:
        """The example inputs, the same ones each time."""
        return [DATA[self.data](shape, seed) for seed, shape in enumerate(self.shapes)]


def near_miss(make: Callable[[], nn.Module], *reason: str, **options) -> Idiom:
    """An idiom that looks binary and is not."""
    return Idiom(make, "float", reason, **options)


# --- data -----------------------------------------------------------------------------------------------------------


def generator(seed: int) -> torch.Generator:
    """Random numbers that do not depend on which tests ran before."""
    return torch.Generator().manual_seed(seed)


def odd_eighths(shape: Shape, seed: int = 0) -> Tensor:
    """From -15/8 to 15/8: never 0, and never at a threshold that is a multiple of 1/4."""
    return (2 * torch.randint(-8, 8, shape, generator=generator(seed)) + 1) / 8.0


def halves(shape: Shape, seed: int = 0) -> Tensor:
    """From -2 to 2 with many exact zeros, of both signs."""
    values = torch.randint(-4, 5, shape, generator=generator(seed)) / 2.0
    return torch.where(torch.rand(shape, generator=generator(seed + 1)) < 0.5, values, -values)


def masked_halves(shape: Shape, seed: int = 0) -> Tensor:
    """Half of it zero."""
    return halves(shape, seed) * (torch.rand(shape, generator=generator(seed + 2)) < 0.5)


def extremes(shape: Shape, seed: int = 0) -> Tensor:
    """Zeros of both signs, denormals, infinities and NaN among ordinary numbers."""
    odd = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1e-39, -1e-39, float("inf"), -float("inf"), float("nan")])
    values = odd_eighths(shape, seed)
    flat = values.reshape(-1)
    places = torch.randperm(flat.numel(), generator=generator(seed))[: flat.numel() // 2]
    flat[places] = odd[torch.arange(len(places)) % len(odd)]
    return values


DATA: dict[str, Callable[[Shape, int], Tensor]] = {
    "real": odd_eighths,
    "zeros": halves,
    "masked": masked_halves,
    "extremes": extremes,
    "normal": lambda shape, seed: torch.randn(shape, generator=generator(seed)),
}


def weight(*shape: int, seed: int = 7) -> Tensor:
    """Random weights: magnitudes are odd eighths, and their mean is exactly 1 in every filter."""
    count = int(torch.Size(shape[1:]).numel())
    half = odd_eighths((shape[0], count // 2), seed).abs()
    magnitudes = torch.cat([half, 2 - half, torch.ones(shape[0], count % 2)], 1)
    order = torch.randperm(count, generator=generator(seed))
    flat = magnitudes[:, order]
    return torch.where(torch.rand(flat.shape, generator=generator(seed + 1)) < 0.5, flat, -flat).reshape(shape)


def signs(*shape: int, seed: int = 7) -> Tensor:
    """Random +-1."""
    return torch.where(torch.rand(shape, generator=generator(seed)) < 0.5, 1.0, -1.0)


def powers(count: int, seed: int = 0) -> Tensor:
    """Powers of two from 1/8 to 4, one a filter."""
    return 2.0 ** torch.randint(-3, 3, (count,), generator=generator(seed))


# --- pieces ---------------------------------------------------------------------------------------------------------

Activation = Callable[[Tensor], Tensor]


def plain_sign(w: Tensor) -> Tensor:
    """Weights without a scale."""
    return torch.sign(w)


def up(x: Tensor) -> Tensor:
    """A sign that leaves nothing to a convention: 0 -> +1."""
    return torch.where(x >= 0, 1.0, -1.0)


class Conv(nn.Module):
    """activation -> convolution with binarised weights -> what follows.

    The three may be functions or modules. kernel : of the weight, [O, I, KH, KW]; options : of F.conv2d.
    """

    def __init__(self, activation=up, rule=plain_sign, kernel=(5, 6, 3, 3), after=None, latent=None, **options):
        super().__init__()
        self.weight = nn.Parameter(weight(*kernel) if latent is None else latent)
        self.activation, self.rule, self.after, self.options = activation, rule, after, options

    def forward(self, x):
        y = F.conv2d(self.activation(x), self.rule(self.weight), **self.options)
        return y if self.after is None else self.after(y)


class Sequence(nn.Module):
    """Parts in a row, functions or modules, each with a name of its own."""

    def __init__(self, **parts):
        super().__init__()
        self.order = list(parts)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        for name in self.order:
            x = getattr(self, name)(x)
        return x


class Whole(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def batch_norm(channels: int, gamma=None, seed: int = 0) -> nn.BatchNorm2d:
    """A trained normalisation: scales and shifts are binary fractions, the variances make exact square roots.

    gamma : one number a channel, cyclic; by default of both signs.
    """
    layer = nn.BatchNorm2d(channels, eps=0.25)
    values = torch.tensor([0.5, -1.0, 2.0, -0.25, 1.0] if gamma is None else gamma)
    assert layer.running_mean is not None and layer.running_var is not None
    with torch.no_grad():
        layer.weight.copy_(values[torch.arange(channels) % len(values)])
        layer.bias.copy_(odd_eighths((channels,), seed) / 2)
        layer.running_mean.copy_(torch.randint(-4, 5, (channels,), generator=generator(seed)))
        layer.running_var.copy_(torch.tensor([3.75, 0.75, 0.0])[torch.arange(channels) % 3])
    return layer.eval()


class PerChannel(nn.Module):
    """x * scale + shift with learned numbers a channel."""

    def __init__(self, scale=None, shift=None):
        super().__init__()
        self.scale = None if scale is None else nn.Parameter(torch.as_tensor(scale).reshape(1, -1, 1, 1))
        self.shift = None if shift is None else nn.Parameter(torch.as_tensor(shift).reshape(1, -1, 1, 1))

    def forward(self, x):
        x = x if self.scale is None else x * self.scale
        return x if self.shift is None else x + self.shift
