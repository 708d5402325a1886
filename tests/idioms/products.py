"""Linear layers, and products of two activations as attention has them."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.idioms.idiom import Idiom, Whole, signs, up, weight

# made before any model is traced: a generator of random numbers cannot be exported
W6, W96, W33 = signs(5, 6), signs(5, 96), signs(33, 7)
QUERIES, KEYS = (2, 3, 5, 33), (2, 3, 7, 33)


def bits(x):
    """{0, 1}."""
    return (x > 0).float()


class Linear(nn.Module):
    """A linear layer of binarised weights."""

    def __init__(self, activation=up, rule=torch.sign, features=33, bias=False):
        super().__init__()
        self.layer = nn.Linear(features, 7, bias=bias)
        with torch.no_grad():
            self.layer.weight.copy_(weight(7, features))
            if bias:
                self.layer.bias.copy_(torch.arange(7) / 4)
        self.activation, self.rule = activation, rule

    def forward(self, x):
        return F.linear(self.activation(x), self.rule(self.layer.weight), self.layer.bias)


def linear(shape=(4, 33), **options):
    return Idiom(lambda: Linear(features=shape[-1], **options), shapes=(shape,), data="zeros")


def product(function, *shapes, **options):
    return Idiom(lambda: Whole(function), shapes=shapes, data="zeros", **options)


def attention(q, k, v):
    """Binary scores, binary probabilities."""
    scores = torch.matmul(up(q), up(k).transpose(-1, -2))
    return torch.matmul((scores > 2).float(), up(v))


def softmax_attention(q, k):
    """Binary scores into a real softmax."""
    return torch.softmax(torch.matmul(up(q), up(k).transpose(-1, -2)) * 0.125, -1)


def spatial_attention(x):
    """All pixels against all pixels."""
    n, c, h, w = x.shape
    q, k = up(x).reshape(n, c, h * w).permute(0, 2, 1), up(x - 0.75).reshape(n, c, h * w)
    return torch.bmm(q, k)


IDIOMS: dict[str, Idiom] = {
    "linear": linear(),
    "linear, {0, 1}": linear(activation=bits),
    "linear, two levels": linear(activation=lambda x: torch.where(x > 0, 1.5, -0.5)),
    "linear, 2 bits": linear(activation=lambda x: torch.round(torch.clamp(x, 0, 1) * 3)),
    "linear, bias": linear(bias=True),
    "linear, scale a filter": linear(rule=lambda w: w.sign() * w.abs().mean(1, keepdim=True)),
    "linear, 1 feature": linear((4, 1)),
    "linear, 64 features": linear((4, 64)),
    "linear, 100 features": linear((4, 100)),
    "linear, tokens": linear((2, 3, 33)),
    "linear, one vector": linear((33,)),
    "linear behind a pooled map": product(
        lambda x: F.linear(up(F.adaptive_avg_pool2d(x, 1).flatten(1)), W6), (2, 6, 4, 4)
    ),
    "linear behind flatten": product(lambda x: F.linear(up(x).flatten(1), W96), (2, 6, 4, 4)),
    "x @ w": product(lambda x: up(x) @ W33, (4, 33)),
    "addmm": product(lambda x: torch.addmm(torch.arange(7) / 4, up(x), W33), (4, 33)),
    "Q K^T": product(lambda q, k: torch.matmul(up(q), up(k).transpose(-1, -2)), QUERIES, KEYS),
    "Q K^T, {0, 1} keys": product(lambda q, k: torch.matmul(up(q), bits(k).transpose(-1, -2)), QUERIES, KEYS),
    "Q K^T, scaled levels": product(
        lambda q, k: torch.matmul(0.5 * up(q), torch.where(k > 0, 1.5, -0.5).transpose(-1, -2)), QUERIES, KEYS
    ),
    "Q K^T into softmax": product(softmax_attention, QUERIES, KEYS, exact=False),
    "Q K^T, 3 axes, bmm": product(lambda q, k: torch.bmm(up(q), up(k).transpose(1, 2)), (2, 5, 33), (2, 7, 33)),
    "Q K^T, 2 axes": product(lambda q, k: torch.matmul(up(q), up(k).t()), (5, 33), (7, 33)),
    "Q K^T of pixels": product(spatial_attention, (1, 33, 3, 4)),
    "binary probabilities times V": product(attention, QUERIES, KEYS, KEYS),
    "einsum bqd,bkd->bqk": product(
        lambda q, k: torch.einsum("bqd,bkd->bqk", up(q), up(k)), (2, 5, 33), (2, 7, 33)
    ),
    "einsum bhqd,bhkd->bhqk": product(lambda q, k: torch.einsum("bhqd,bhkd->bhqk", up(q), up(k)), QUERIES, KEYS),
    "einsum bhqk,bhkd->bhqd": product(
        lambda p, v: torch.einsum("bhqk,bhkd->bhqd", bits(p), up(v)), (2, 3, 5, 7), KEYS
    ),
}
