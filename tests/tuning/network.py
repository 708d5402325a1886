"""A network with one kernel that has something to decide."""

import torch
from torch import nn

from tvm_bnn.nn import BinaryConv2d, Sign


class Tiny(nn.Sequential):
    """Sign, binary convolution, batch normalisation; input float32 [1, 64, 16, 24]."""

    def __init__(self) -> None:
        super().__init__(Sign(), BinaryConv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64))

    def example_inputs(self) -> tuple[torch.Tensor, ...]:
        return (torch.randn(1, 64, 16, 24, generator=torch.Generator().manual_seed(0)),)


def tiny() -> nn.Module:
    """The network, with the same weights each time."""
    torch.manual_seed(0)
    return Tiny().eval()
