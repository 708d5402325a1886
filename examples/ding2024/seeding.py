"""Seeded random weights under which the network is lively.

A random binary network easily dies: a bit that is the same at every pixel carries nothing, and with arbitrary
BN statistics most are. Here each layer's statistics are drawn around the values that they would have for
random bits, so that about half of the bits are set, activations keep their size and many classes win.

A convolution of n taps with bits of +-1 and weights +-a sums to a standard deviation of a * sqrt(n). The mean
of |w| over normal weights of deviation s is s * sqrt(2 / pi); s = sqrt(pi / 2 / n) gives outputs of deviation 1.
Neighbouring pixels agree more often than not, which widens that to about SPREAD. A PReLU of slope below 1
raises the mean; the output shift takes that back.
"""

from collections.abc import Callable, Mapping
from math import pi, prod, sqrt
from typing import TypeVar

import torch
from torch import Tensor, nn

from tvm_bnn.nn import BinaryConv2d, BinaryConvTranspose2d, RPReLU, SoftGate, ThresholdSign, WeightedMerge
from tvm_bnn.nn.token_attention import TokenAttention

SPREAD = 1.2
NEGATIVE_GAMMAS = 0.15

Model = TypeVar("Model", bound=nn.Module)


class Source:
    """Random tensors in the shape of a given one, from one generator."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, like: Tensor, deviation: float, mean: float = 0.0) -> Tensor:
        return torch.randn(like.shape, generator=self.generator) * deviation + mean

    def uniform(self, like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=self.generator) * (high - low) + low


def _filters(module: BinaryConv2d | nn.Conv2d, source: Source) -> None:
    taps = prod(module.weight.shape[1:])
    size = sqrt(pi / 2 / taps) * source.uniform(module.weight[:, :1, :1, :1], 0.7, 1.4)
    module.weight.copy_(source.normal(module.weight, 1.0) * size)
    if module.bias is not None:
        module.bias.copy_(source.normal(module.bias, 0.1))


def _transposed(module: BinaryConvTranspose2d, source: Source) -> None:
    taps = module.in_channels * prod(module.kernel_size) / prod(module.stride)
    module.weight.copy_(source.normal(module.weight, sqrt(pi / 2 / taps)))


def _linear(module: nn.Linear, source: Source) -> None:
    module.weight.copy_(source.normal(module.weight, 1 / sqrt(module.in_features)))
    module.bias.copy_(source.normal(module.bias, 0.5, mean=0.3))


def _norm(module: nn.BatchNorm2d, source: Source) -> None:
    assert module.running_mean is not None and module.running_var is not None
    module.running_mean.copy_(source.normal(module.running_mean, 0.2))
    module.running_var.copy_(source.uniform(module.running_var, 0.5, 1.5) * SPREAD**2)
    negative = source.uniform(module.weight, 0, 1) < NEGATIVE_GAMMAS
    gamma = source.uniform(module.weight, 0.6, 1.4)
    module.weight.copy_(torch.where(negative, -gamma, gamma))
    module.bias.copy_(source.normal(module.bias, 0.2))


def _rprelu(module: RPReLU, source: Source) -> None:
    module.shift_in.copy_(source.normal(module.shift_in, 0.1))
    module.prelu.weight.copy_(source.uniform(module.prelu.weight, 0.1, 0.6))
    module.shift_out.copy_(source.normal(module.shift_out, 0.1, mean=-0.22))


def _threshold(module: ThresholdSign, source: Source) -> None:
    module.threshold.copy_(source.normal(module.threshold, 0.2))


def _merge(module: WeightedMerge, source: Source) -> None:
    module.weight.copy_(source.uniform(module.weight, 0.6, 1.4) / len(module.weight))


def _gate(module: SoftGate, source: Source) -> None:
    module.gate.copy_(source.normal(module.gate, 0.5, mean=1.0))


def _token(module: TokenAttention, tokens: int) -> None:
    assert module.norm.running_var is not None
    # V P^T sums over the tokens that are attended to, about half of them, and their values agree more often than not
    module.norm.running_var.mul_((0.8 * tokens) ** 2)


#: (module, source of random tensors) -> None
Initialiser = Callable[..., None]

_INITIALISERS: dict[type[nn.Module], Initialiser] = {
    BinaryConv2d: _filters,
    BinaryConvTranspose2d: _transposed,
    nn.BatchNorm2d: _norm,
    nn.Conv2d: _filters,
    nn.ConvTranspose2d: _transposed,
    nn.Linear: _linear,
    RPReLU: _rprelu,
    SoftGate: _gate,
    ThresholdSign: _threshold,
    WeightedMerge: _merge,
}


def seed_weights(model: Model, seed: int, tokens: int = 0, more: Mapping[type[nn.Module], Initialiser] = {}) -> Model:
    """Overwrite all parameters and statistics of the model from the seed; the same model is returned.

    tokens : how many an attention over tokens will see; of no account where there is none.
    more : what to do with modules of further classes.
    """
    initialisers = {**_INITIALISERS, **more}
    source = Source(seed)
    with torch.no_grad():
        for module in model.modules():
            initialise = initialisers.get(type(module))
            if initialise is not None:
                initialise(module, source)
        for module in model.modules():
            if isinstance(module, TokenAttention):
                _token(module, tokens)
    return model
