"""Parallel upsampling: K binary copies of one map, upsampled, convolved and merged."""

from collections.abc import Sequence

from torch import Tensor, nn

from tvm_bnn.nn.binary_conv import BinaryConv2d
from tvm_bnn.nn.upsample import UPSAMPLINGS
from tvm_bnn.nn.weighted_merge import WeightedMerge


class ParallelUpsample(nn.Module):
    """sum_i w_i * BN_i(BinaryConv_i(upsample_i(B_i))).

    Ding et al. 2024 (arXiv 2405.17776), parallel upsampling: the low-resolution map is copied to K branches,
    each does binary upsampling and a binary convolution, a learned weighted sum merges them. The paper's
    summary leaves the kind of upsampling open, so the module is a family.

    channels : C. branches : K. mode : a key of UPSAMPLINGS ("nearest", "bilinear", "transposed",
    "pixel_shuffle"); ValueError for any other. scale : integer factor. kernel_size : odd, of the convolutions.
    Input [N, C, H, W] (copied to the branches) or a sequence of K of them; output [N, C, scale*H, scale*W].
    """

    def __init__(self, channels: int, branches: int = 1, mode: str = "nearest", scale: int = 2, kernel_size: int = 3):
        super().__init__()
        if mode not in UPSAMPLINGS:
            raise ValueError(f"unknown upsampling {mode!r}; accepted: {', '.join(UPSAMPLINGS)}")
        self.branches = nn.ModuleList(
            nn.Sequential(
                UPSAMPLINGS[mode](channels, scale),
                BinaryConv2d(channels, channels, kernel_size, padding=kernel_size // 2),
                nn.BatchNorm2d(channels),
            )
            for _ in range(branches)
        )
        self.merge = WeightedMerge(branches)

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        copies = [x] * len(self.branches) if isinstance(x, Tensor) else list(x)
        if len(copies) != len(self.branches):
            raise ValueError(f"upsampling of {len(self.branches)} branches was given {len(copies)} tensors")
        return self.merge([branch(copy) for branch, copy in zip(self.branches, copies, strict=True)])
