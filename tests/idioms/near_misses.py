"""What looks binary and is not: these stay float, and the reason is the true one."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.idioms.idiom import Conv, Idiom, PerChannel, Sequence, Whole, batch_norm, near_miss, odd_eighths, signs, up
from tests.idioms.residue import clipped

# made before any model is traced: a generator of random numbers cannot be exported
W, SIGNS, REAL = signs(5, 6, 3, 3), signs(7, 33), odd_eighths((7, 33))


def real_weights(w):
    """As they are."""
    return w


def magnitude_by_channel(x):
    """[N, C, 1, 1]: each input channel has a scale of its own, and it depends on the data."""
    return up(x) * x.abs().amax((2, 3), keepdim=True)


class WeightsFromData(nn.Module):
    """Weights whose signs depend on the input."""

    def __init__(self):
        super().__init__()
        self.latent = nn.Parameter(odd_eighths((5, 6, 3, 3)))

    def forward(self, x):
        return F.conv2d(up(x), torch.sign(self.latent + x.amax()))


def normalised(x):
    """A sign that is normalised with statistics of the data."""
    s = up(x)
    centred = s - s.mean((2, 3), keepdim=True)
    return centred / torch.sqrt(centred.square().mean((2, 3), keepdim=True) + 0.25)


def wrong_residue(x):
    """The smooth function that is added is not the one that was taken away."""
    return torch.sign(x) - clipped(x) + 0.5 * clipped(x)


def interleaved(x):
    """Six channels, six steps."""
    return up(x) * torch.tensor([1.0, 2.0, 4.0, 0.5, 0.25, 8.0]).reshape(1, 6, 1, 1)


IDIOMS: dict[str, Idiom] = {
    "binary weights, real input": near_miss(lambda: Conv(nn.Identity()), "input", "real"),
    "binary input, real weights": near_miss(lambda: Conv(rule=real_weights), "weight", "magnitude|level|value"),
    "binary input, clipped weights": near_miss(
        lambda: Conv(rule=lambda w: torch.clamp(w, -1, 1)), "weight", "magnitude|level|value"
    ),
    "2-bit weights": near_miss(lambda: Conv(rule=lambda w: torch.round(w * 1.5) / 1.5), "weight", exact=False),
    "a scale an input channel, in the weights": near_miss(
        lambda: Conv(rule=lambda w: w.sign() * torch.tensor([1.0, 2, 4, 0.5, 0.25, 8]).reshape(1, 6, 1, 1)),
        "weight",
        "magnitude|level|value",
    ),
    "a scale an input channel, from the data": near_miss(
        lambda: Conv(magnitude_by_channel), "channel|depend|input|two tensors"
    ),
    "a constant scale an input channel, all different": near_miss(lambda: Conv(interleaved), "channel", "step|level"),
    "a scale a pixel, from the data": near_miss(
        lambda: Conv(lambda x: up(x) * x.abs().amax(1, keepdim=True)), "depend|input|two tensors|pixel|position"
    ),
    "weights that depend on the data": near_miss(WeightsFromData, "weight", "depend"),
    "sign, average pooling, conv": near_miss(lambda: Conv(lambda x: F.avg_pool2d(up(x), 2)), "average|pool"),
    "sign, global average, conv": near_miss(
        lambda: Conv(lambda x: F.adaptive_avg_pool2d(up(x), 1), kernel=(5, 6, 1, 1)), "average|pool|mean", exact=False
    ),
    "sign, bilinear resize, conv": near_miss(
        lambda: Conv(lambda x: F.interpolate(up(x), scale_factor=2, mode="bilinear")), "bilinear|linear|resize|interpol"
    ),
    "sign, bicubic resize, conv": near_miss(
        lambda: Conv(lambda x: F.interpolate(up(x), scale_factor=2, mode="bicubic")),
        "it is interpolated (resize2d",
        exact=False,
    ),
    "three levels, {-1, 0, 2}": near_miss(
        lambda: Conv(lambda x: torch.where(x > 1, 2.0, torch.where(x < -1, -1.0, 0.0))), "level|step"
    ),
    "four levels, not evenly spaced": near_miss(
        lambda: Conv(lambda x: (x > -1).float() + 2 * (x > 0).float() + 4 * (x > 1).float()), "level|step"
    ),
    "5 bits": near_miss(lambda: Conv(lambda x: torch.round(torch.clamp(x, 0, 1) * 31)), "level|bit"),
    "8 bits": near_miss(
        lambda: Conv(lambda x: torch.round(torch.clamp(x, 0, 1) * 255) / 255), "level|bit", exact=False
    ),
    "sum of a sign and {0, 5} of another tensor": near_miss(
        lambda: Whole(lambda x, y: F.conv2d(up(x) + 5 * (y > 0).float(), W)), "level|step", shapes=((1, 6, 5, 5),) * 2
    ),
    "padding with a number between the levels": near_miss(
        lambda: Conv(lambda x: F.pad(up(x), (1, 1, 1, 1), value=0.5)), "level|padded"
    ),
    "sign plus its input": near_miss(lambda: Conv(lambda x: up(x) + x), "real|input|add|sum|two"),
    "sign times its input": near_miss(lambda: Conv(lambda x: up(x) * x), "real|input|multipl|product|two"),
    "residue of another function": near_miss(lambda: Conv(wrong_residue), "real|add|subtract|two"),
    "no sign: tanh(5x)": near_miss(lambda: Conv(lambda x: torch.tanh(5 * x)), "real|tanh", exact=False),
    "no sign: hardtanh": near_miss(lambda: Conv(F.hardtanh), "real|hardtanh|clip|clamp"),
    "no sign: sigmoid": near_miss(lambda: Conv(torch.sigmoid), "real|sigmoid", exact=False),
    "no sign: relu": near_miss(lambda: Conv(F.relu), "real|relu"),
    "round without a clamp": near_miss(lambda: Conv(torch.round), "round", "gives it any whole number", data="zeros"),
    "round, then a wide clamp": near_miss(
        lambda: Conv(lambda x: torch.clamp(torch.round(x * 16), -128, 127)), "clip", "leaves it 256 levels"
    ),
    "round, and no clamp behind it": near_miss(
        lambda: Conv(lambda x: torch.round(x * 4) * 0.25 + 0.5), "round", "gives it any whole number"
    ),
    "instance norm behind a sign": near_miss(
        lambda: Conv(normalised), "norm|mean|divide|two|real|depend", exact=False
    ),
    "PReLU of real values": near_miss(
        lambda: Sequence(bn=batch_norm(6), inner=Conv(nn.LeakyReLU(0.25))), "real|relu|prelu"
    ),
    "where between two tensors": near_miss(
        lambda: Whole(lambda x, y: F.conv2d(torch.where(x > 0, y, -y), W)),
        "where|choose|real",
        shapes=((1, 6, 5, 5),) * 2,
    ),
    "a real shift a channel behind no sign": near_miss(lambda: Conv(PerChannel(shift=[0.25] * 6)), "real"),
    "linear, real weights": near_miss(
        lambda: Whole(lambda x: F.linear(up(x), REAL)), "weight", shapes=((4, 33),)
    ),
    "linear, real input": near_miss(
        lambda: Whole(lambda x: F.linear(x, SIGNS)), "input", "real", shapes=((4, 33),)
    ),
    "Q K^T, real keys": near_miss(
        lambda: Whole(lambda q, k: torch.matmul(up(q), k.transpose(-1, -2))), "real", shapes=((2, 5, 33), (2, 7, 33))
    ),
    "softmax probabilities times binary V": near_miss(
        lambda: Whole(lambda p, v: torch.matmul(torch.softmax(p, -1), up(v))),
        "softmax|real",
        shapes=((2, 5, 7), (2, 7, 33)),
        exact=False,
    ),
    "scaled_dot_product_attention of signs": Idiom(
        lambda: Whole(lambda q, k, v: F.scaled_dot_product_attention(up(q), up(k), up(v))),
        "binary, float",
        ("softmax|where|attention|real",),
        shapes=((1, 2, 5, 8), (1, 2, 7, 8), (1, 2, 7, 8)),
        exact=False,
    ),
}
