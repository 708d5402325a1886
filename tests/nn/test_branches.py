"""Modules over parallel branches: activation, merge, gate, upsampling."""

import pytest
import torch
import torch.nn.functional as F

from tvm_bnn.nn import UPSAMPLINGS, ParallelUpsample, RPReLU, SoftGate, WeightedMerge
from tvm_bnn.nn.upsample import NearestUpsample, PixelShuffleUpsample, TransposedUpsample


def _maps(count: int, *shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def test_rprelu():
    module = RPReLU(2)
    with torch.no_grad():
        module.shift_in.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1))
        module.prelu.weight.copy_(torch.tensor([0.5, -2.0]))
        module.shift_out.copy_(torch.tensor([10.0, 20.0]).reshape(2, 1, 1))
    x = torch.tensor([-3.0, 0.0, 3.0]).expand(1, 2, 1, 3)
    assert module(x).flatten(1).tolist() == [[8.0, 9.5, 12.0, 24.0, 21.0, 24.0]]


def test_merge_is_a_weighted_sum_that_starts_as_the_mean():
    module, maps = WeightedMerge(3), _maps(3, 1, 2, 4, 4)
    torch.testing.assert_close(module(maps), torch.stack(maps).mean(0))
    with torch.no_grad():
        module.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
    torch.testing.assert_close(module(maps), maps[0] - 2 * maps[1] + maps[2] / 2)


@pytest.mark.parametrize(("value", "own"), [(0.0, 0.5), (1.0986122887, 0.75)])
def test_gate(value: float, own: float):
    module, maps = SoftGate(), _maps(3, 1, 2, 4, 4)
    torch.nn.init.constant_(module.gate, value)
    total = maps[0] + maps[1] + maps[2]
    for out, branch in zip(module(maps), maps, strict=True):
        torch.testing.assert_close(out, own * branch + (1 - own) * total)


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("mode", UPSAMPLINGS)
def test_upsampling_units_give_bits_at_the_exact_size(mode: str, scale: int):
    torch.manual_seed(0)
    out = UPSAMPLINGS[mode](5, scale).eval()(torch.randn(2, 5, 3, 4))
    assert out.shape == (2, 5, 3 * scale, 4 * scale)
    assert set(out.unique().tolist()) == {-1.0, 1.0}


def test_nearest_repeats_bits():
    x = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.where(x >= 0, 1.0, -1.0).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(NearestUpsample(3, 2)(x), expected)


def test_bilinear_takes_the_sign_of_interpolated_values():
    x = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(x, size=(8, 10), mode="bilinear", align_corners=False)
    assert torch.equal(UPSAMPLINGS["bilinear"](3, 2)(x), torch.where(smooth >= 0, 1.0, -1.0))


@pytest.mark.parametrize("kind", [TransposedUpsample, PixelShuffleUpsample])
def test_learned_upsampling_convolves_bits(kind: type):
    """In eval mode with fresh statistics BN divides by sqrt(1 + eps): signs are those of the convolution."""
    torch.manual_seed(1)
    module, x = kind(4, 2).eval(), torch.randn(1, 4, 3, 3)
    out = module.conv(torch.where(x >= 0, 1.0, -1.0))
    if kind is PixelShuffleUpsample:
        out = F.pixel_shuffle(out, 2)
    assert torch.equal(module(x), torch.where(out >= 0, 1.0, -1.0))


@pytest.mark.parametrize("mode", UPSAMPLINGS)
def test_parallel_upsample_is_the_weighted_sum_of_its_branches(mode: str):
    torch.manual_seed(2)
    module = ParallelUpsample(4, 3, mode).eval()
    torch.nn.init.uniform_(module.merge.weight)
    maps = _maps(3, 1, 4, 3, 5)
    out = sum(weight * branch(x) for weight, branch, x in zip(module.merge.weight, module.branches, maps, strict=True))
    torch.testing.assert_close(module(maps), out)
    torch.testing.assert_close(module(maps[0]), module([maps[0]] * 3))


def test_refusals():
    with pytest.raises(ValueError, match="unknown upsampling 'cubic'; accepted: nearest, bilinear, transposed"):
        ParallelUpsample(4, mode="cubic")
    with pytest.raises(ValueError, match="upsampling of 2 branches was given 3 tensors"):
        ParallelUpsample(4, 2)(_maps(3, 1, 4, 2, 2))
    with pytest.raises(ValueError, match="merge of 2 branches was given 1 tensors"):
        WeightedMerge(2)(_maps(1, 1, 4, 2, 2))
