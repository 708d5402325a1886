"""Binary attention: masks of zeros and ones, computed once, applied to each branch."""

import pytest
import torch
import torch.nn.functional as F

from tvm_bnn.nn import ATTENTIONS, BinaryAttention, BinaryMask
from tvm_bnn.nn.channel_attention import ChannelAttention
from tvm_bnn.nn.spatial_attention import SpatialAttention
from tvm_bnn.nn.token_attention import TokenAttention


def _maps(count: int, *shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def _both_values(mask: torch.Tensor) -> bool:
    return set(mask.unique().tolist()) == {0.0, 1.0}


def _sign(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def test_mask_is_one_from_zero_on():
    assert BinaryMask()(torch.tensor([-2.0, -0.0, 0.0, 1e-45, 3.0])).tolist() == [0, 1, 1, 1, 1]


def test_mask_passes_a_gradient_only_where_it_is_open():
    x = torch.tensor([-0.5, 0.5, 1.5], requires_grad=True)
    BinaryMask()(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 0]


def test_channel():
    torch.manual_seed(0)
    module, maps = ChannelAttention(6, 2), _maps(2, 3, 6, 4, 5)
    means = torch.cat([branch.flatten(2).sum(2) / 20 for branch in maps], dim=1)
    expected = (means @ module.linear.weight.T + module.linear.bias >= 0).float()
    masks = torch.cat(list(module.masks(maps)), dim=1)
    assert masks.shape == (3, 12, 1, 1) and _both_values(masks)
    assert torch.equal(masks.flatten(1), expected)
    for out, branch, mask in zip(module(maps), maps, (expected[:, :6], expected[:, 6:]), strict=True):
        assert torch.equal(out, branch * mask[:, :, None, None])


def test_spatial():
    torch.manual_seed(0)
    module, maps = SpatialAttention(6, 2), _maps(2, 3, 6, 4, 5)
    weight, bias = module.conv.weight.flatten(), module.conv.bias
    expected = (torch.einsum("nchw,c->nhw", torch.cat(maps, dim=1), weight) + bias >= 0).float()[:, None]
    first, second = module.masks(maps)
    assert first.shape == (3, 1, 4, 5) and _both_values(first)
    assert torch.equal(first, expected) and torch.equal(second, expected)
    for out, branch in zip(module(maps), maps, strict=True):
        assert torch.equal(out, branch * expected)


@pytest.mark.parametrize("reduction", [1, 2])
def test_token(reduction: int):
    """15 channels, an odd number: no sum of bits is zero, where rounding would choose the sign."""
    torch.manual_seed(0)
    module, maps = TokenAttention(5, 3, width=16, reduction=reduction).eval(), _maps(3, 3, 5, 4, 8)
    torch.nn.init.constant_(module.threshold, 0.6)
    cells = torch.cat(maps, dim=1).unfold(2, reduction, reduction).unfold(3, reduction, reduction).mean((4, 5))
    bits = _sign(cells)
    weights = [projection.get_parameter("0.weight") for projection in (module.query, module.key, module.value)]
    query, key, value = (_sign(F.conv2d(bits, _sign(weight))) for weight in weights)
    scores = torch.einsum("ndhw,ndxy->nhwxy", query, key) / 4
    expected = (scores - 0.6 >= 0).float()
    assert _both_values(expected)
    tokens = (4 // reduction) * (8 // reduction)
    assert torch.equal(module.probabilities(module.tokens(maps)), expected.reshape(3, tokens, tokens))
    mixed = torch.einsum("nhwxy,ncxy->nchw", expected, value) / (1 + module.norm.eps) ** 0.5
    mixed = mixed.repeat_interleave(reduction, 2).repeat_interleave(reduction, 3)
    for out, branch in zip(module(maps), maps, strict=True):
        torch.testing.assert_close(out, branch + mixed)


def test_gradients_reach_every_parameter():
    maps = [branch.requires_grad_() for branch in _maps(2, 2, 6, 4, 4)]
    for kind in ATTENTIONS:
        torch.manual_seed(0)
        module = BinaryAttention(kind, 6, 2)
        sum((branch * (index + 1)).square().sum() for index, branch in enumerate(module(maps))).backward()
        missing = [name for name, value in module.named_parameters() if value.grad is None or not value.grad.any()]
        assert missing == []


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown attention 'global'; accepted: channel, spatial, token"):
        BinaryAttention("global", 8)
