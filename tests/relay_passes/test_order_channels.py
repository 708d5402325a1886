"""OrderChannels: channels that stay channels lie together where others become pixels; nothing else changes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import tvm
from tvm import relax
from tvm.relax.op import add, exp, greater, permute_dims, reshape

from tests.relay_passes.conftest import emit
from tvm_bnn import ops
from tvm_bnn.lower import lower
from tvm_bnn.relay_passes.arrangement import Arrangement
from tvm_bnn.relay_passes.decisions import Decisions
from tvm_bnn.relay_passes.order_channels import OrderChannels
from tvm_bnn.relay_passes.pipeline import optimize
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name
from tvm_bnn.relay_passes.sink_views import SinkViews
from tvm_bnn.targets import resolve

BITS = (1, 33, 3, 5)
SCALE = relax.const(np.linspace(0.5, 2, 48, dtype=np.float32).reshape(1, 48, 1, 1))


def convolved(x, filters=48, groups=1):
    weight = relax.const(np.random.default_rng(0).random((filters, 33 // groups, 3, 3)) < 0.5)
    return emit(ops.bconv2d(x, weight, ops.BConv2DAttrs(padding=(1, 1, 1, 1), groups=groups)))


def normalised(x):
    return emit(ops.affine(convolved(x), SCALE, relax.const(np.ones((1, 48, 1, 1), np.float32))))


def shuffled(value, scale=2):
    """Pixel shuffle, as it is imported."""
    n, c, h, w = (int(e) for e in value.ty.shape)
    cut = emit(reshape(value, (n, c // scale**2, scale, scale, h, w)))
    return emit(reshape(emit(permute_dims(cut, (0, 1, 4, 2, 5, 3))), (n, c // scale**2, h * scale, w * scale)))


def arrangements_at_the_end(module):
    """How the result is rearranged behind the last operator that computes something."""
    chain = []
    computed = [b for b in bindings_of(module["main"]) if not isinstance(b.value, relax.Var)]
    for binding in reversed(computed):
        if op_name(binding.value) not in ("relax.reshape", "relax.permute_dims"):
            break
        chain.append(binding)
    shape = tuple(int(e) for e in chain[-1].value.args[0].ty.shape)
    arrangement = Arrangement.identity(shape)
    for binding in reversed(chain):
        arrangement = arrangement.then(binding.value, tuple(int(e) for e in binding.var.ty.shape))
    return arrangement


@pytest.mark.parametrize(
    ("function", "scale"),
    [
        (lambda x: shuffled(normalised(x)), 2),
        (lambda x: greater(shuffled(normalised(x)), relax.const(np.float32(1))), 2),
        (lambda x: shuffled(emit(greater(normalised(x), SCALE))), 2),
        (lambda x: shuffled(normalised(x), 4), 4),
    ],
    ids=["a map", "a comparison behind", "a comparison before", "four times as large"],
)
def test_channels_of_a_pixel_lie_together(build, run, agree, function, scale):
    module = build(function, BITS, dtypes=("bool",))
    after = run(module, OrderChannels(), SinkViews())
    arrangement = arrangements_at_the_end(after)
    assert arrangement.factors_of(1) == [(scale, 2), (scale, 3), (48 // scale**2, 1)]
    agree(module, after)


KEPT = {
    "read in its own order too": lambda x: add(shuffled(value := normalised(x)), emit(relax.op.mean(emit(exp(value))))),
    "another map before": lambda x: shuffled(emit(add(value := normalised(x), emit(exp(value))))),
    "a constant a pixel": lambda x: shuffled(
        emit(add(normalised(x), relax.const(np.arange(5, dtype=np.float32).reshape(1, 1, 1, 5))))
    ),
    "groups": lambda x: shuffled(emit(relax.op.astype(convolved(x, 36, 3), "float32"))),
    "channels that lie together": lambda x: emit(permute_dims(normalised(x), (0, 2, 3, 1))),
    "not rearranged": normalised,
}


@pytest.mark.parametrize("kind", KEPT)
def test_declines(build, run, kind):
    module = build(KEPT[kind], BITS, dtypes=("bool",))
    tvm.ir.assert_structural_equal(run(module, OrderChannels()), module)


def with_repeated(x, y):
    """A pixel shuffle, plus a small map repeated over its blocks."""
    large = emit(
        relax.op.image.resize2d(
            y, (6, 10), layout="NCHW", method="nearest_neighbor",
            coordinate_transformation_mode="asymmetric", rounding_method="floor",
        )
    )  # fmt: skip
    return add(shuffled(normalised(x)), large)


def test_a_repeated_map_is_added_before(build, run, agree, operators):
    module = build(with_repeated, BITS, (1, 12, 3, 5), dtypes=("bool", "float32"))
    after = run(module, OrderChannels(), SinkViews())
    assert operators(after)[1:4] == ["bnn.affine", "relax.tile", "relax.add"]
    assert "relax.image.resize2d" not in operators(after)
    agree(module, after)


def test_a_map_repeated_otherwise_stays(build, run, operators):
    """Channels of the shuffle lie apart without OrderChannels, so a pixel's are no block of channels."""

    module = build(with_repeated, BITS, (1, 12, 3, 5), dtypes=("bool", "float32"))
    assert operators(run(module, SinkViews())).count("relax.image.resize2d") == 1


class ShuffledBits(torch.nn.Module):
    """sign(shuffle(BN(conv(sign(x))))) read by a convolution."""

    def __init__(self, channels):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = torch.randn(4 * channels, 32, 3, 3, generator=generator).sign()
        self.second = torch.randn(32, channels, 3, 3, generator=generator).sign()
        self.norm = torch.nn.BatchNorm2d(channels)
        with torch.no_grad():
            self.norm.bias.copy_(torch.linspace(-9, 9, channels))

    def forward(self, x):
        def sign(v):
            return torch.where(v >= 0, 1.0, -1.0)

        y = F.pixel_shuffle(F.conv2d(sign(x), self.first, padding=1), 2)
        return F.conv2d(sign(self.norm(y)), self.second, padding=1)


@pytest.mark.parametrize(("channels", "copies"), [(64, 0), (32, 0), (24, 1)])
def test_whole_words_move(imported, agree, channels, copies):
    """No kernel between the convolutions, unless a pixel's channels fill no words."""
    torch.manual_seed(0)
    module = imported(ShuffledBits(channels), torch.randn(1, 32, 4, 6))
    optimized = optimize(module, Decisions())
    agree(module, optimized, 1e-5)
    families = list(lower(optimized, resolve("llvm -mcpu=x86-64-v4")).family_of.values())
    others = 2  # what packs the argument, and what stores the result as PyTorch has it
    assert families.count("conv") == 2 and families.count("elementwise") == others + copies


class Unshuffled(torch.nn.Module):
    """A convolution of pixel-unshuffled bits, which another one made."""

    def __init__(self, channels):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = torch.randn(channels, 32, 3, 3, generator=generator).sign()
        self.second = torch.randn(32, 4 * channels, 3, 3, generator=generator).sign()

    def forward(self, x):
        y = F.conv2d(torch.where(x >= 0, 1.0, -1.0), self.first, padding=1)
        return F.conv2d(F.pixel_unshuffle(torch.where(y >= 3, 1.0, -1.0), 2), self.second, padding=1)


@pytest.mark.parametrize(("channels", "copies"), [(64, 0), (32, 0), (24, 1)])
def test_whole_words_become_channels(imported, agree, channels, copies):
    module = imported(Unshuffled(channels), torch.randn(1, 32, 6, 8))
    optimized = optimize(module, Decisions())
    agree(module, optimized, 1e-5)
    families = list(lower(optimized, resolve("llvm -mcpu=x86-64-v4")).family_of.values())
    others = 2  # what packs the argument, and what stores the result as PyTorch has it
    assert families.count("conv") == 2 and families.count("elementwise") == others + copies
