"""Through the whole pipeline: consecutive binary layers exchange packed bits, and nothing that is dead stays."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from tvm import relax

from tvm_bnn import targets
from tvm_bnn.lower import lower
from tvm_bnn.relay_passes.convert_binary import Decisions
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.pipeline import optimize
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name


class Layer(nn.Module):
    def __init__(self, channels: int, filters: int):
        super().__init__()
        self.weight = nn.Parameter(torch.where(torch.randn(filters, channels, 3, 3) >= 0, 1.0, -1.0))
        self.norm = nn.BatchNorm2d(filters)

    def forward(self, x):
        return self.norm(F.conv2d(torch.sign(x), self.weight, padding=1))


class Decoder(nn.Module):
    """Max-pool, nearest upsampling, concat and pixel shuffle between binary layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third, self.fourth = Layer(32, 64), Layer(64, 64), Layer(128, 128), Layer(32, 4)

    def forward(self, x):
        high = self.first(x)
        low = self.second(F.max_pool2d(high, 2))
        both = torch.cat([high, F.interpolate(low, scale_factor=2, mode="nearest")], 1)
        return self.fourth(F.pixel_shuffle(self.third(both), 2))


@pytest.fixture
def optimized(imported):
    torch.manual_seed(0)
    decisions = Decisions()
    module = optimize(imported(Decoder(), torch.zeros(1, 32, 8, 8)), decisions)
    assert [layer.decision for layer in decisions.layers] == ["binary"] * 4
    assert [layer.epilogue for layer in decisions.layers] == ["integer threshold"] * 3 + [""]
    return module


def test_only_bits_pass_between_binary_layers(optimized):
    results = [b.var for b in bindings_of(optimized["main"]) if isinstance(b.value, relax.Call)]
    floats = [var.name for var in results if str(var.ty.dtype) == "float32"]
    assert len(floats) == 1  # the network's own result


def test_kernels_exchange_words(optimized):
    lowered = lower(optimized, targets.resolve("llvm -mcpu=x86-64-v3", threads=1))
    calls = [b for b in bindings_of(lowered.module["main"]) if op_name(b.value).startswith("relax.call_tir")]
    dtypes = [str(b.var.ty.dtype) for b in calls if isinstance(b.var.ty, relax.TensorType)]
    # the last two are the result, and its copy in PyTorch's layout
    assert set(dtypes[:-2]) == {"uint32"}


def test_parameters_that_no_longer_matter_are_gone(optimized):
    constants = []

    def note(expr):
        if is_constant(expr):
            constants.append(value_of(expr))

    for binding in bindings_of(optimized["main"]):
        relax.analysis.post_order_visit(binding.value, note)
    # scale and shift of the last layer; the others' normalisations live on in integers
    assert sum(c.size for c in constants if c.dtype == "float32" and c.size > 1) == 2 * 4
    assert not any(c.dtype == "float32" and c.ndim == 4 and c.size > 64 for c in constants)


def test_equal_bits_are_made_once(optimized):
    tests = [b.value for b in bindings_of(optimized["main"]) if op_name(b.value) == "bnn.interval"]
    assert len(tests) == 3
