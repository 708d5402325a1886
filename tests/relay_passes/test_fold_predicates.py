"""FoldPredicates: the integer test is the imported graph's bit, for every sum that a layer can reach."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from tvm import relax
from tvm.ir import SourceName, Span
from tvm.relax import BlockBuilder

from tvm_bnn import ops
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.convert_binary import ConvertBinary, Decisions, Layer
from tvm_bnn.relay_passes.fold_constants import FoldConstants
from tvm_bnn.relay_passes.fold_predicates import FoldPredicates
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name

LAYER = Span(SourceName("layer"), 0, 0, 0, 0)
FILTERS, CHANNELS = 8, 5
SUMS = 9 * CHANNELS


def binary(x):
    return torch.where(x >= 0, 1.0, -1.0)


def normalisation(seed: int = 0) -> nn.BatchNorm2d:
    """Statistics and parameters of a trained layer, with negative, zero and tiny gammas among them."""
    generator = torch.Generator().manual_seed(seed)
    norm = nn.BatchNorm2d(FILTERS)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.copy_(torch.randn(FILTERS, generator=generator) * 9)
    norm.running_var.copy_(torch.rand(FILTERS, generator=generator) * 60 + 0.1)
    norm.weight.data.copy_(torch.randn(FILTERS, generator=generator))
    norm.bias.data.copy_(torch.randn(FILTERS, generator=generator))
    norm.weight.data[:4] = torch.tensor([-0.7, 0.0, 1e-30, -1e-8])
    return norm


class Chain(nn.Module):
    """Sign, convolution, something, sign, convolution."""

    def __init__(self, behind, padding: int = 0, levels=binary):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = nn.Parameter(binary(torch.randn(FILTERS, CHANNELS, 3, 3, generator=generator)) * 0.3)
        self.second = nn.Parameter(binary(torch.randn(3, FILTERS, 1, 1, generator=generator)))
        self.behind, self.padding, self.levels = behind, padding, levels
        self.norm = behind if isinstance(behind, nn.Module) else None

    def forward(self, x):
        y = self.behind(F.conv2d(self.levels(x), self.first, padding=self.padding))
        return F.conv2d(binary(y), self.second)


class Sequence(nn.Module):
    def __init__(self, *steps):
        super().__init__()
        self.steps = steps
        self.modules_ = nn.ModuleList([step for step in steps if isinstance(step, nn.Module)])

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return x


SLOPES = torch.linspace(-1.5, 1.5, FILTERS)
SHIFT = torch.linspace(-3, 3, FILTERS).reshape(1, -1, 1, 1)
BEHIND = {
    "nothing": (lambda x: x, "threshold"),
    "batch norm": (normalisation(), "threshold"),
    "bias": (lambda x: x + SHIFT, "threshold"),
    "norm, relu, shift": (Sequence(normalisation(), F.relu, lambda x: x - 0.25), "threshold"),
    "relu, norm": (Sequence(F.relu, normalisation(2)), "threshold"),
    "prelu of both signs": (Sequence(lambda x: F.prelu(x, SLOPES), lambda x: x - 1), "interval"),
    "norm, prelu, norm": (
        Sequence(normalisation(), lambda x: F.prelu(x, SLOPES.flip(0)), lambda x: x - 0.125),
        "interval",
    ),
    "hardtanh, norm": (Sequence(lambda x: F.hardtanh(x / 8), normalisation(4)), "threshold"),
    "square": (lambda x: 20 - x * x, "interval"),
    "outside": (lambda x: x * x - 20, "interval"),
    "always": (lambda x: x * 0 + 1, "threshold"),
    "never": (lambda x: x * 0 - 1, "threshold"),
    "not a number": (lambda x: x * float("nan"), "threshold"),
}


def folded(model, run, imported, padding=0):
    decisions = Decisions()
    before = run(imported(model, torch.zeros(1, CHANNELS, 5, 5)), FoldConstants(), ConvertBinary(decisions))
    return before, run(before, FoldPredicates(decisions)), decisions


def bit_and_sum(module):
    """Names of the predicate behind the first convolution, and of its integer sum."""
    predicate = [b for b in bindings_of(module["main"]) if str(getattr(b.var.ty, "dtype", "")) == "bool"][-1]
    sums = [b for b in bindings_of(module["main"]) if op_name(b.value) == "bnn.bconv2d"]
    return predicate.var.name, sums[0].var.name


@pytest.mark.parametrize(("behind", "kind"), BEHIND.values(), ids=list(BEHIND))
def test_every_reachable_sum_gives_the_imported_bit(run, imported, operators, behind, kind):
    """Forced to each sum in turn, in every filter, both graphs make the same bit."""
    before, after, decisions = folded(Chain(behind), run, imported)
    assert operators(after).count("bnn.interval") == 1
    assert decisions.layers[0].epilogue == f"integer {kind}"
    bit, integer = bit_and_sum(before)
    for first in range(-SUMS, SUMS + 1, 9):
        sums = np.minimum(np.arange(first, first + 9), SUMS).astype(np.int32).reshape(1, 1, 3, 3)
        force = {integer: np.broadcast_to(sums, (1, FILTERS, 3, 3)).copy()}
        seen = [{}, {}]
        for module, values in zip((before, after), seen, strict=True):
            evaluate(module, [np.zeros((1, CHANNELS, 5, 5), np.float32)], force=dict(force), observe=values.__setitem__)
        np.testing.assert_array_equal(seen[1][bit], seen[0][bit])


@pytest.mark.parametrize("padding", [1, 2])
def test_borders_have_tests_of_their_own(run, imported, agree, operators, padding):
    levels = lambda x: torch.where(x >= 0, 2.0, -0.5)  # noqa: E731
    before, after, decisions = folded(Chain(normalisation(), padding, levels), run, imported)
    assert decisions.layers[0].epilogue == "integer threshold per border class"
    assert operators(after).count("bnn.interval") == 1
    agree(before, after)


DECLINED = {
    "a residual": (lambda x: x + x.mean(1, keepdim=True), "it depends on"),
    "many changes": (lambda x: torch.sigmoid(x) * 0 + (x * x - 4) * (x * x - 40), "its bit changes at 4 sums"),
}


@pytest.mark.parametrize(("behind", "reason"), DECLINED.values(), ids=list(DECLINED))
def test_other_predicates_stay_in_floats(run, imported, agree, operators, behind, reason):
    before, after, decisions = folded(Chain(behind), run, imported)
    assert "bnn.interval" not in operators(after)
    assert decisions.layers[0].epilogue.startswith(f"float: {reason}")
    agree(before, after)


@pytest.mark.parametrize(("doublings", "text"), [(3, "integer threshold"), (200, "float: its sums reach ")])
def test_sums_that_share_their_terms_are_looked_at_once(run, build, operators, doublings, text):
    """x + x, again and again: each way down to the layer would be one of 2**doublings."""
    weight = relax.const(np.ones((4, 5, 1, 1), bool))

    def function(bits):
        total = BlockBuilder.current().emit(ops.bconv2d(bits, weight, ops.BConv2DAttrs(), LAYER))
        for _ in range(doublings):
            total = BlockBuilder.current().emit(relax.op.add(total, total))
        number = BlockBuilder.current().emit(relax.op.astype(total, "float32"))
        bit = BlockBuilder.current().emit(relax.op.greater(number, relax.const(0.5)))
        return ops.bconv2d(bit, relax.const(np.ones((3, 4, 1, 1), bool)), ops.BConv2DAttrs())

    decisions = Decisions([Layer("layer", "conv2d", "", 0, "", decision="binary")])
    after = run(build(function, (1, 5, 2, 2), dtypes=["bool"]), FoldPredicates(decisions))
    assert decisions.layers[0].epilogue.startswith(text)
    assert ("bnn.interval" in operators(after)) == text.startswith("integer")


def test_what_others_read_stays(run, imported, agree, operators):
    class Residual(Chain):
        def forward(self, x):
            y = self.behind(F.conv2d(self.levels(x), self.first))
            return F.conv2d(binary(y), self.second) + y[:, :3]

    before, after, _ = folded(Residual(normalisation()), run, imported)
    assert operators(after).count("bnn.interval") == 1 and "relax.nn.batch_norm" in operators(after)
    agree(before, after)


def test_a_count_at_both_ends():
    """A sum equal to the bound in either direction is tried too."""
    from tvm_bnn.relay_passes.fold_predicates import _intervals

    truth = np.zeros((4, 7), bool)  # sums -3 .. 3
    truth[0, -1] = truth[1, 0] = True
    truth[2] = True
    truth[3, [0, -1]] = True
    lowest, span, kind = _intervals(truth, 3)
    sums = np.arange(-3, 4, dtype=np.int32)
    np.testing.assert_array_equal((sums[None] - lowest[:, None]).astype(np.uint32) <= span[:, None], truth)
    assert kind == "interval"
