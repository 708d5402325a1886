"""Transposed convolution with binary weights: a learned upsampling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.nn.binary_conv import Size, pair
from tvm_bnn.nn.binary_weight import binary_weight


class BinaryConvTranspose2d(nn.Module):
    """conv_transpose2d(x, sign(w) * mean|w|), one scale an output channel.

    in_channels, out_channels, kernel_size, stride, padding : as torch.nn.ConvTranspose2d; no bias.
    Input [N, in, H, W], to be binary already; output [N, out, H', W'].
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.padding = pair(kernel_size), pair(stride), pair(padding)
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels, *self.kernel_size))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        weight = binary_weight(self.weight, reduced=(0, 2, 3))
        return F.conv_transpose2d(x, weight, None, self.stride, self.padding)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}"
        )
