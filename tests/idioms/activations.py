"""Binary activations: every spelling of a sign, its conventions for 0, and levels other than +-1."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.idioms.idiom import Conv, Idiom, PerChannel, Sequence, signs, up
from tests.idioms.residue import clipped, polynomial, residue

A, B = 0.5, 0.25  # a scale and a shift that are "learned"


def masked_fill(x):
    """The zeros of a sign, overwritten in place."""
    s = torch.sign(x)
    s[s == 0] = 1
    return s


def fill_method(x):
    """The same with the method."""
    s = torch.sign(x)
    return s.masked_fill_(s == 0, 1.0)


class SignFunction(torch.autograd.Function):
    """A sign with a straight-through gradient."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


class TorchSignFunction(SignFunction):
    """The same with torch.sign, whose value at 0 is 0."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sign(x)


# 0 goes to +1 or -1 as the spelling says: no convention touches these, and the inputs have many zeros
EXACT = {
    "where(x >= 0, 1, -1)": up,
    "where(x > 0, 1, -1)": lambda x: torch.where(x > 0, 1.0, -1.0),
    "where(x < 0, -1, 1)": lambda x: torch.where(x < 0, -torch.ones_like(x), torch.ones_like(x)),
    "where(s == 0, 1, s)": lambda x: torch.where(torch.sign(x) == 0, torch.ones_like(x), torch.sign(x)),
    "where(x == 0, 1, sign(x))": lambda x: torch.where(x == 0, 1.0, torch.sign(x)),
    "s[s == 0] = 1": masked_fill,
    "s.masked_fill_(s == 0, 1)": fill_method,
    "x.sign() + (x == 0)": lambda x: x.sign() + (x == 0).float(),
    "(x >= 0).float() * 2 - 1": lambda x: (x >= 0).float() * 2 - 1,
    "(x >= 0) * 2 - 1, a bool tensor": lambda x: (x >= 0) * 2.0 - 1.0,
    "2 * (x > 0) - 1, cast late": lambda x: (2 * (x > 0).int() - 1).float(),
    "x.ge(0).to(x) - x.lt(0).to(x)": lambda x: x.ge(0).to(x) - x.lt(0).to(x),
    "1 - 2 * (x < 0)": lambda x: 1.0 - 2.0 * (x < 0).to(x.dtype),
    "sign(sign(x) + 0.1)": lambda x: torch.sign(torch.sign(x) + 0.1),
    "sign(sign(x) - 0.5)": lambda x: torch.sign(torch.sign(x) - 0.5),
    "autograd.Function, x >= 0": SignFunction.apply,
    "sign(x).clamp(min=0) * 2 - 1": lambda x: torch.sign(x).clamp(min=0) * 2 - 1,
    "relu(sign(x))": lambda x: F.relu(torch.sign(x)),
    "sign(relu(x))": lambda x: torch.sign(F.relu(x)),
    "{0, 1}: (x > 0).float()": lambda x: (x > 0).float(),
    "{0, 1}: heaviside(x, 1)": lambda x: torch.heaviside(x, torch.ones(())),
    "{0, a}: a * (x > a)": lambda x: A * (x > A).float(),
    "{-a, a}: a * where(x >= 0)": lambda x: A * up(x),
    "{c, d}: where(x > b, 1.5, -0.5)": lambda x: torch.where(x > B, 1.5, -0.5),
    "{1, -1}: -where(x >= 0)": lambda x: -up(x),
    "1 - mask": lambda x: 1 - (x > 0).float(),
    "not (x > 0)": lambda x: (~(x > 0)).float() * 2 - 1,
    "(x > -1) & (x < 1)": lambda x: ((x > -1) & (x < 1)).float(),
    "(x > 1) | (x < -1)": lambda x: (x > 1).logical_or(x < -1).float() * 2 - 1,
    "abs(x) < 1": lambda x: torch.where(x.abs() < 1, 1.0, -1.0),
    "clamp(1e6 * sign(sign(x) + .1), -1, 1)": lambda x: torch.clamp(1e6 * torch.sign(torch.sign(x) + 0.1), -1, 1),
}

# torch.sign of a real tensor: --sign-zero speaks about 0, and the inputs have none
GUESSED = {
    "torch.sign(x)": torch.sign,
    "autograd.Function, torch.sign": TorchSignFunction.apply,
    "sign(hardtanh(x))": lambda x: torch.sign(F.hardtanh(x)),
    "sign(clamp(x, -1, 1))": lambda x: torch.sign(torch.clamp(x, -1.0, 1.0)),
    "sign(tanh(5 * x))": lambda x: torch.sign(torch.tanh(5 * x)),
    "sign(x - 0.5)": lambda x: torch.sign(x - 0.5),
    "sign(0.25 - x)": lambda x: torch.sign(0.25 - x),
    "a * (sign((x - b) / a) + b)": lambda x: A * (torch.sign((x - B) / A) + B),
    "sign(x * -3)": lambda x: torch.sign(x * -3.0),
    "sign(sign(x))": lambda x: torch.sign(torch.sign(x)),
    "(sign(x) + 1) / 2": lambda x: (torch.sign(x) + 1) / 2,
    "residue of the identity": residue(torch.sign, lambda x: x),
    "residue of a clip": residue(torch.sign, clipped),
    "residue of a polynomial": residue(torch.sign, polynomial),
    "residue of a tanh": residue(torch.sign, torch.tanh),
    "residue of a clip around a polynomial's": lambda x: residue(torch.sign, clipped)(
        residue(torch.sign, polynomial)(x)
    ),
    "residue of a polynomial, twice": lambda x: residue(torch.sign, polynomial)(residue(torch.sign, polynomial)(x)),
    "(sign(x) - x).detach() + x": lambda x: (torch.sign(x) - x).detach() + x,
}

# roundings: two levels, or so few that they are bit planes
ROUNDED = {
    "round(clamp(x, 0, 1))": lambda x: torch.round(torch.clamp(x, 0, 1)),
    "round(x / a).clamp(0, 1) * a": lambda x: torch.round(x / A).clamp(0, 1) * A,
    "A2: round(clamp(x, 0, 1) * 3)": lambda x: torch.round(torch.clamp(x, 0, 1) * 3),
    "A2: round(clamp(x, 0, 1) * 3) / 4": lambda x: torch.round(torch.clamp(x, 0, 1) * 3) / 4,
    "A2: {-3, -1, 1, 3} * a": lambda x: (torch.round(torch.clamp(x, 0, 1) * 3) * 2 - 3) * A,
    "A3: round(clamp(x, 0, 1) * 7)": lambda x: torch.round(torch.clamp(x, 0, 1) * 7),
    "five levels: round(clamp(2 * x, -2, 2))": lambda x: torch.round(torch.clamp(2 * x, -2, 2)),
    "A4: round(clamp(x, 0, 1) * 15)": lambda x: torch.round(torch.clamp(x, 0, 1) * 15),
    "A4: floor(clamp(x, 0, 1) * 15)": lambda x: torch.floor(torch.clamp(x, 0, 1) * 15),
    "A2, residue: (q - x).detach() + x": lambda x: (torch.round(torch.clamp(x, 0, 1) * 3) - x).detach() + x,
    "ternary: round(clamp(x, -1, 1))": lambda x: torch.round(torch.clamp(x, -1, 1)),
    "ternary: a * ((x > d) - (x < -d))": lambda x: A * ((x > B).float() - (x < -B).float()),
    "ternary: where(abs(x) > d, sign(x), 0)": lambda x: torch.where(x.abs() > B, up(x), 0.0),
    "ternary {0, a, 2a}: (x > 0) + (x > 1)": lambda x: ((x > 0).float() + (x > 1).float()) * A,
}

PER_CHANNEL = {
    "threshold a channel: sign(x + b)": (PerChannel(shift=[0.25, -0.5, 1.0, -1.0, 0.0, 0.75]), torch.sign),
    "affine: sign(k * x + b), k of both signs": (
        PerChannel([1.0, -0.5, 2.0, -1.0, 0.25, -2.0], [0.5, -0.25, 0.0, 1.0, 0.25, -0.5]),
        torch.sign,
    ),
    "affine: k * x + b >= 0": (
        PerChannel([1.0, -0.5, 2.0, -1.0, 0.25, -2.0], [0.5, -0.25, 0.0, 1.0, 0.25, -0.5]),
        up,
    ),
    "levels a channel: s + b": (up, PerChannel(shift=[0.25, -0.5, 1.0, -1.0, 0.0, 0.75])),
    "signs a channel: s * +-a": (up, PerChannel(scale=0.5 * signs(6))),
    "signs and shifts a channel": (up, PerChannel(0.5 * signs(6), [0.25, -0.5, 1.0, -1.0, 0.0, 0.75])),
}


class Adaptive(nn.Module):
    """AdaBin's activation: learned centre and distance, the two levels a * (b +- 1)."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.25))

    def forward(self, x):
        return self.a * (torch.sign((x - self.b) / self.a) + self.b)


class DoReFa(nn.Module):
    """k bits, scaled back to [0, 1]: the levels are no short binary fractions."""

    def __init__(self, bits):
        super().__init__()
        self.steps = 2**bits - 1

    def forward(self, x):
        x = torch.clamp(x, 0, 1)
        return ((torch.round(x * self.steps) / self.steps) - x).detach() + x


IDIOMS: dict[str, Idiom] = {
    **{name: Idiom(partial(Conv, f), data="zeros") for name, f in EXACT.items()},
    **{name: Idiom(partial(Conv, f), zeros="guessed") for name, f in GUESSED.items()},
    **{name: Idiom(partial(Conv, f, padding=1)) for name, f in ROUNDED.items()},
    **{
        name: Idiom(
            partial(Conv, Sequence(first=parts[0], second=parts[1])),
            data="zeros" if up in parts else "real",
            zeros="" if up in parts else "guessed",
        )
        for name, parts in PER_CHANNEL.items()
    },
    "AdaBin, learned centre and distance": Idiom(lambda: Conv(Adaptive()), zeros="guessed"),
    "DoReFa, 1 bit": Idiom(lambda: Conv(DoReFa(1))),
    "DoReFa, 2 bits, thirds": Idiom(lambda: Conv(DoReFa(2)), exact=False),
    "DoReFa, 4 bits, fifteenths": Idiom(lambda: Conv(DoReFa(4)), exact=False),
}
