"""PReLU with learned shifts of its input and its output."""

import torch
from torch import Tensor, nn


class RPReLU(nn.Module):
    """prelu(x - shift_in) + shift_out, all three learned per channel (ReActNet, section 4.2).

    channels : C; input and output are [N, C, H, W]. Starts as a PReLU of slope 0.25.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.shift_in = nn.Parameter(torch.zeros(channels, 1, 1))
        self.prelu = nn.PReLU(channels)
        self.shift_out = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(x - self.shift_in) + self.shift_out
