"""Convolution with binary weights and, when its input is binary, binary in both operands."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.nn.binary_weight import binary_weight
from tvm_bnn.nn.sign import check_estimator, sign

Size = int | tuple[int, int]
#: What has a scale of its own -> dimensions of the weight that its mean is over.
REDUCED = {"filter": (1, 2, 3), "layer": (0, 1, 2, 3)}


def pair(value: Size) -> tuple[int, int]:
    """(y, x) of a size that may be given as one number."""
    return (value, value) if isinstance(value, int) else value


class BinaryConv2d(nn.Module):
    """conv2d(x, sign(w) * mean|w|), one scale a filter or a layer (Ding et al. 2024; Bi-Real Net, section 3).

    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias : as torch.nn.Conv2d.
    padding_value : what a padded position holds: 0 (as PyTorch pads), +1 (Group-Net) or -1 (BiDet).
        A zero is a third level at the border; +1 and -1 keep the padded map binary.
    binarize_input : take the sign of the input first. Otherwise the input should be binary already.
    estimator : straight-through estimator of that sign; the weight's is always clip.
    detach_scale : see tvm_bnn.nn.binary_weight.
    scale : what has a scale of its own, each "filter" or the whole "layer" (Group-Net).
    Input [N, in, H, W], output [N, out, H', W']; ValueError for another padding value or scale.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        *,
        bias: bool = False,
        padding_value: int = 0,
        binarize_input: bool = False,
        estimator: str = "clip",
        detach_scale: bool = True,
        scale: str = "filter",
    ):
        super().__init__()
        if padding_value not in (0, 1, -1):
            raise ValueError(f"padding_value is {padding_value}; accepted: 0, 1, -1")
        if scale not in REDUCED:
            raise ValueError(f"scale is {scale!r}; accepted: {', '.join(REDUCED)}")
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{in_channels} -> {out_channels} channels cannot be split into {groups} groups")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.dilation = pair(kernel_size), pair(stride), pair(dilation)
        self.padding, self.padding_value = pair(padding), padding_value
        self.binarize_input, self.estimator = binarize_input, check_estimator(estimator)
        self.detach_scale, self.scale = detach_scale, scale
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        if self.binarize_input:
            x = sign(x, self.estimator)
        padding = self.padding
        if self.padding_value != 0 and padding != (0, 0):
            x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]), value=float(self.padding_value))
            padding = (0, 0)
        weight = binary_weight(self.weight, REDUCED[self.scale], detach_scale=self.detach_scale)
        return F.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, "
            f"padding_value={self.padding_value}, binarize_input={self.binarize_input}"
        )
