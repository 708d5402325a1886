"""Binary attention between positions: binary queries, keys and values; two-level probabilities, or softmax."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tvm_bnn.nn.binary_conv import BinaryConv2d
from tvm_bnn.nn.binary_mask import BinaryMask
from tvm_bnn.nn.threshold_sign import ThresholdSign


class _Projection(nn.Sequential):
    """Binary 1x1 convolution, BN, sign: bits in, bits out."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(BinaryConv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs), ThresholdSign(outputs))


class TokenAttention(nn.Module):
    """B_i + BN(V P^T), where P = relu(sign(Q^T K / sqrt(d) - threshold)) and Q, K, V are binary.

    With softmax=True, P is softmax(Q^T K / sqrt(d)) over the keys instead, and has no threshold.

    A token is a cell of reduction x reduction pixels, averaged, since the number of products grows with the
    square of the tokens; the result is repeated over the cell. Q and K have `width` channels (default C), V has C.
    Takes K tensors [N, C, H, W] with H and W multiples of reduction and gives K of that shape; P is [N, T, T]
    with T = H * W / reduction^2 tokens, P[n, q, k] = 1 where query q attends to key k. With a key_stride s > 1, keys
    and values are those of every s-th token of every s-th row (ToDo, arXiv 2402.13573): P is [N, T, T / s^2].
    """

    def __init__(
        self,
        channels: int,
        branches: int,
        width: int | None = None,
        reduction: int = 1,
        key_stride: int = 1,
        softmax: bool = False,
    ):
        super().__init__()
        inputs, self.width, self.reduction = branches * channels, width or channels, reduction
        self.key_stride = key_stride
        self.sign = ThresholdSign(inputs)
        self.query = _Projection(inputs, self.width)
        self.key = _Projection(inputs, self.width)
        self.value = _Projection(inputs, channels)
        self.softmax = softmax
        if not softmax:
            self.threshold = nn.Parameter(torch.zeros(()))
            self.mask = BinaryMask()
        self.norm = nn.BatchNorm2d(channels)

    def probabilities(self, bits: Tensor) -> Tensor:
        """P [N, queries, keys], zeros and ones or softmax's, from the binary tokens [N, K*C, h, w]."""
        query, key = self.query(bits).flatten(2), self.key(self._kept(bits)).flatten(2)
        scores = query.transpose(1, 2) @ key / self.width**0.5
        return torch.softmax(scores, -1) if self.softmax else self.mask(scores - self.threshold)

    def _kept(self, bits: Tensor) -> Tensor:
        """The tokens that keys and values are made of."""
        return bits[:, :, :: self.key_stride, :: self.key_stride] if self.key_stride > 1 else bits

    def tokens(self, branches: Sequence[Tensor]) -> Tensor:
        """The binary tokens [N, K*C, h, w] of all branches."""
        joined = torch.cat(list(branches), dim=1)
        return self.sign(F.avg_pool2d(joined, self.reduction) if self.reduction > 1 else joined)

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        bits = self.tokens(branches)
        mixed = self.value(self._kept(bits)).flatten(2) @ self.probabilities(bits).transpose(1, 2)
        mixed = self.norm(mixed.unflatten(2, bits.shape[2:]))
        if self.reduction > 1:
            mixed = F.interpolate(mixed, scale_factor=float(self.reduction), mode="nearest")
        return [branch + mixed for branch in branches]
