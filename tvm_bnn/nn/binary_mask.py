"""Attention values as a mask of zeros and ones."""

import torch
from torch import Tensor, nn

from tvm_bnn.nn.sign import check_estimator, sign


class BinaryMask(nn.Module):
    """relu(sign(x)): 1 where x >= 0, else 0 (Ding et al. 2024: +-1 attention values pass a ReLU first).

    Any shape. A module of its own, so that a float twin can put a sigmoid in its place.
    """

    def __init__(self, estimator: str = "clip"):
        super().__init__()
        self.estimator = check_estimator(estimator)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(sign(x, self.estimator))
