"""The float twin: the same network in float32, to compare speed and accuracy with."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import nn

from tvm_bnn.examples.ding2024.config import BENCH, Ding2024Config
from tvm_bnn.examples.ding2024.model import Ding2024
from tvm_bnn.examples.ding2024.seeding import seed_weights
from tvm_bnn.nn import BinaryConv2d, BinaryConvTranspose2d, BinaryMask, RPReLU, Sign, ThresholdSign


def _conv(module: BinaryConv2d) -> nn.Module:
    geometry = (module.kernel_size, module.stride, module.padding, module.dilation, module.groups)
    return nn.Conv2d(module.in_channels, module.out_channels, *geometry, bias=module.bias is not None)


def _transposed(module: BinaryConvTranspose2d) -> nn.Module:
    geometry = (module.kernel_size, module.stride, module.padding)
    return nn.ConvTranspose2d(module.in_channels, module.out_channels, *geometry, bias=False)


#: Binary module -> float module.
Replacement = Callable[..., nn.Module]

#: Binary convolution -> a float one of the same shape.
FLOAT_CONVOLUTIONS: dict[type[nn.Module], Replacement] = {BinaryConv2d: _conv, BinaryConvTranspose2d: _transposed}
_FLOAT: dict[type[nn.Module], Replacement] = {
    **FLOAT_CONVOLUTIONS,
    BinaryMask: lambda module: nn.Sigmoid(),
    RPReLU: lambda module: nn.ReLU(),
    Sign: lambda module: nn.Identity(),
    ThresholdSign: lambda module: nn.Identity(),
}


def make_float(module: nn.Module, more: Mapping[type[nn.Module], Replacement] = {}) -> None:
    """Replace everything binary inside: float convolutions, ReLU for RPReLU, nothing for signs, sigmoid for masks.

    more : what stands for modules of further classes.
    """
    stands_for = {**_FLOAT, **more}
    for name, child in module.named_children():
        if name == "between":  # a sign between two convolutions, where no other activation stands
            setattr(module, name, nn.ReLU())
        elif type(child) in stands_for:
            setattr(module, name, stands_for[type(child)](child))
        else:
            make_float(child, more)


def float_twin(config: Ding2024Config, seed: int = 0) -> Ding2024:
    """The network of that configuration with K=1 and nothing binary, in eval mode, with seeded weights.

    Float convolutions stand for the binary ones and ReLU for RPReLU; the signs, which would follow a ReLU, are
    left out. The attention stays, with a sigmoid for relu(sign). The multiply-accumulates are those of the
    binary network with K=1.
    """
    twin = Ding2024(replace(config, branches=1))
    make_float(twin)
    return seed_weights(twin, seed, config.tokens).eval()


def bench_float_twin() -> Ding2024:
    """The float twin of `bench`, whatever its branches."""
    return float_twin(BENCH)
