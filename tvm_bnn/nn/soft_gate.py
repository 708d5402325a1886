"""Soft gate between parallel branches."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SoftGate(nn.Module):
    """a * B_i + (1 - a) * sum_j B_j with a = sigmoid(g), in front of the branches' next convolutions.

    One learned scalar g, shared by the branches (Group-Net, section 3.2.3; Ding et al. 2024). The sum
    includes B_i itself. Takes K tensors of one shape and gives K of that shape; g starts at 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        own = torch.sigmoid(self.gate)
        total = branches[0]
        for branch in branches[1:]:
            total = total + branch
        return [own * branch + (1 - own) * total for branch in branches]
