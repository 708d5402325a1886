"""Binary attention over positions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tvm_bnn.nn.binary_mask import BinaryMask


class SpatialAttention(nn.Module):
    """B_i * m, where m = relu(sign(1x1 convolution of all branches)) has one bit a position.

    Takes K tensors [N, C, H, W] and gives K of that shape; the mask is [N, 1, H, W], the same for each branch.
    """

    def __init__(self, channels: int, branches: int):
        super().__init__()
        self.conv = nn.Conv2d(branches * channels, 1, 1)
        self.mask = BinaryMask()

    def masks(self, branches: Sequence[Tensor]) -> Sequence[Tensor]:
        """The one mask [N, 1, H, W] of zeros and ones, K times."""
        return [self.mask(self.conv(torch.cat(list(branches), dim=1)))] * len(branches)

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        return [branch * mask for branch, mask in zip(branches, self.masks(branches), strict=True)]
