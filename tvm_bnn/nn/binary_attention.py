"""Binary attention, computed once on all branches and distributed to each."""

from collections.abc import Sequence

from torch import Tensor, nn

from tvm_bnn.nn.channel_attention import ChannelAttention
from tvm_bnn.nn.spatial_attention import SpatialAttention
from tvm_bnn.nn.token_attention import TokenAttention

ATTENTIONS: dict[str, type[nn.Module]] = {
    "channel": ChannelAttention,
    "spatial": SpatialAttention,
    "token": TokenAttention,
}


class BinaryAttention(nn.Module):
    """Attention with binary values (Ding et al. 2024, arXiv 2405.17776, binary attention).

    Computed once on the concatenated branches, then distributed to every branch by element-wise
    multiplication; the +-1 values pass a ReLU first, so the mask is {0, 1}. The paper's summary does not say over
    what the attention runs, so it is a family: "channel", "spatial" and "token" (Q^T K, whose values reach
    the branches as a residual). Options, such as token's width and reduction, go to the chosen kind.

    channels : C. branches : K. Takes K tensors [N, C, H, W], gives K of that shape. ValueError for another kind.
    """

    def __init__(self, kind: str, channels: int, branches: int = 1, **options: int):
        super().__init__()
        if kind not in ATTENTIONS:
            raise ValueError(f"unknown attention {kind!r}; accepted: {', '.join(ATTENTIONS)}")
        self.kind = kind
        self.attend = ATTENTIONS[kind](channels, branches, **options)

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        return self.attend(branches)
