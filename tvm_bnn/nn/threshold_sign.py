"""Sign with a learned threshold for each channel."""

import torch
from torch import Tensor, nn

from tvm_bnn.nn.sign import check_estimator, sign


class ThresholdSign(nn.Module):
    """+1 where x >= threshold(c), else -1 (RSign of ReActNet, section 4.2, there with the opposite sign).

    channels : C; input and output are [N, C, H, W], the threshold starts at 0.
    estimator : see tvm_bnn.nn.sign.
    """

    def __init__(self, channels: int, estimator: str = "polynomial"):
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(channels, 1, 1))
        self.estimator = check_estimator(estimator)

    def forward(self, x: Tensor) -> Tensor:
        return sign(x - self.threshold, self.estimator)

    def extra_repr(self) -> str:
        return f"{self.threshold.shape[0]}, estimator={self.estimator}"
