"""Binary attention over channels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tvm_bnn.nn.binary_mask import BinaryMask


class ChannelAttention(nn.Module):
    """B_i * m_i, where m = relu(sign(linear(mean over the pixels of all branches))) has one bit a channel.

    Takes K tensors [N, C, H, W] and gives K of that shape; the mask is [N, K*C, 1, 1], C of it for each branch.
    """

    def __init__(self, channels: int, branches: int):
        super().__init__()
        self.linear = nn.Linear(branches * channels, branches * channels)
        self.mask = BinaryMask()

    def masks(self, branches: Sequence[Tensor]) -> Sequence[Tensor]:
        """K masks [N, C, 1, 1] of zeros and ones."""
        means = torch.cat(list(branches), dim=1).mean(dim=(2, 3))
        return self.mask(self.linear(means))[:, :, None, None].chunk(len(branches), dim=1)

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        return [branch * mask for branch, mask in zip(branches, self.masks(branches), strict=True)]
