"""Sum of parallel branches with learned weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class WeightedMerge(nn.Module):
    """sum_i w_i * B_i (Ding et al. 2024, parallel upsampling; Group-Net, section 3.2.2, learned scalars).

    branches : K; takes K tensors of one shape and gives one of that shape. Starts as the mean.
    """

    def __init__(self, branches: int):
        super().__init__()
        self.weight = nn.Parameter(torch.full((branches,), 1 / branches))

    def forward(self, branches: Sequence[Tensor]) -> Tensor:
        if len(branches) != self.weight.shape[0]:
            raise ValueError(f"merge of {self.weight.shape[0]} branches was given {len(branches)} tensors")
        merged = branches[0] * self.weight[0]
        for index in range(1, len(branches)):
            merged = merged + branches[index] * self.weight[index]
        return merged
