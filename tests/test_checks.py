"""The three checks: they hold for the example networks, and they see faults."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tvm import relax

from tvm_bnn import checks
from tvm_bnn.compiler import Compilation, compile_source
from tvm_bnn.examples import ding2024
from tvm_bnn.frontend.source import load_source
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, op_name, run_rewriter
from tvm_bnn.targets import resolve


@dataclass(frozen=True)
class Case:
    made: Compilation
    batches: list[tuple[torch.Tensor, ...]]


def compiled(model, size, count):
    batches = [ding2024.example_inputs(model, size, seed) for seed in range(count)]
    return Case(compile_source(load_source(model, batches[0]), resolve("llvm", 2)), batches)


@pytest.fixture(scope="module")
def cases():
    """The named configurations with seeded weights: bench at a quarter of its height and width, demo at its own."""
    return {
        "bench": compiled(ding2024.bench(), (128, 256), 1),
        "demo": compiled(ding2024.build(ding2024.DEMO), (256, 512), 3),
    }


@pytest.fixture(scope="module", params=["bench", "demo"])
def case(request, cases):
    return cases[request.param]


@pytest.fixture(scope="module")
def small():
    """Three branches, a gate, and logits."""
    config = ding2024.Ding2024Config(
        width=8, decoder_channels=16, branches=3, gate=True, classes=4, argmax=False, input_size=(64, 96)
    )
    return compiled(ding2024.build(config), (64, 96), 2)


def test_every_binary_convolution_is_converted(case):
    layers = case.made.artifact.explain()
    assert [row["path"] for row in layers if row["decision"] == "float" and row["op"] == "conv2d"] == [
        "encoder.stem.conv",
        "head",
    ]
    assert sum(row["decision"] == "binary" for row in layers) >= 30


def test_artifact_equals_the_reference_bit_for_bit(case):
    differences = checks.against_reference(case.made.artifact, case.made.optimized, case.batches[0])
    assert [difference.differing for difference in differences] == [0]


def test_every_value_follows_from_pytorchs(case):
    figures = checks.teacher_forced(case.made.imported, case.made.optimized, case.batches[0])
    assert [figure for figure in figures if not figure.exact_enough] == []
    # what this rests on: normalised convolutions and the signs behind them are among the values compared
    # (a normalisation that is folded into what follows is compared there)
    normalised = [figure for figure in figures if figure.node.startswith("getitem") and figure.dtype == "float32"]
    assert len(normalised) >= 20
    assert sum(figure.dtype == "float32" for figure in figures) >= 100
    assert sum(figure.dtype == "bool" for figure in figures) >= 30
    worst = max(figure.error for figure in figures if figure.dtype == "float32")
    print(f"\n{len(figures)} values, worst float {worst:.2g}, {sum(figure.near for figure in figures)} bits near")


def test_end_to_end_is_no_worse_than_pytorch_itself(cases):
    """Over all images together: for a single one PyTorch may agree with itself, and then one flipped bit is not."""
    pooled = []
    for name, case in cases.items():
        found = checks.end_to_end(case.made.imported, case.made.optimized, case.made.artifact, case.batches)
        print(f"\n{name}\n{found}")
        assert found.compiled.bits > 1_000_000
        pooled.append(found)
    bench, demo = pooled
    total = checks.EndToEnd(bench.compiled + demo.compiled, bench.pytorch + demo.pytorch)
    assert total.no_worse, str(total)


# --- they see faults --------------------------------------------------------------------------------------------


class _Fault(DataflowRewriter):
    """Spoils one call of an operator."""

    def __init__(self, operator, spoil):
        super().__init__()
        self.operator, self.spoil, self.done = operator, spoil, False

    def rewrite(self, call, name):
        if self.done or op_name(call) != self.operator or not any(is_constant(a) for a in call.args):
            return None
        self.done = True
        return self.spoil(call)


def spoiled(module, operator, spoil):
    return run_rewriter(lambda: _Fault(operator, spoil), module)


def one_weight_bit(call):
    weight = value_of(call.args[1]).copy()
    weight.flat[0] = not weight.flat[0]
    return relax.Call(call.op, [call.args[0], relax.const(weight)], call.attrs, call.ty_args, call.span)


def slightly_wrong_shift(call):
    shift = value_of(call.args[2])
    shift = shift + np.float32(1e-4) * np.abs(shift).max()
    return relax.Call(call.op, [*call.args[:2], relax.const(shift)], call.attrs, call.ty_args, call.span)


def moved_threshold(call):
    return relax.Call(call.op, [call.args[0], relax.const(np.float32(0.05))], call.attrs, call.ty_args, call.span)


FAULTS = [
    ("bnn.bconv2d", one_weight_bit),
    ("bnn.affine", slightly_wrong_shift),
    ("relax.greater_equal", moved_threshold),
]


@pytest.mark.parametrize(("operator", "spoil"), FAULTS, ids=[operator for operator, _ in FAULTS])
def test_teacher_forcing_finds_one_wrong_layer(small, operator, spoil):
    whole = small.made.optimized
    assert all(f.exact_enough for f in checks.teacher_forced(small.made.imported, whole, small.batches[0]))
    wrong = spoiled(whole, operator, spoil)
    figures = checks.teacher_forced(small.made.imported, wrong, small.batches[0])
    bad = [figure for figure in figures if not figure.exact_enough]
    # the fault does not travel: what is spoiled is seen where it is, and nowhere else
    assert 1 <= len(bad) <= 2


def test_reference_and_spread_see_a_wrong_artifact(small):
    wrong = spoiled(small.made.optimized, "bnn.bconv2d", one_weight_bit)
    (difference,) = checks.against_reference(small.made.artifact, wrong, small.batches[0])
    assert 0 < difference.differing <= difference.elements
    found = checks.end_to_end(small.made.imported, wrong, small.made.artifact, small.batches)
    assert found.compiled.flipped > 0 and not found.no_worse


def test_differing_bits_and_nan():
    one, two = np.array([0.0, np.nan, 1.0], np.float32), np.array([-0.0, np.nan, 1.0], np.float32)
    assert checks._differing_bits(one, two) == 1
    two[1] = np.uint32(0x7FC00001).view(np.float32)
    assert checks._differing_bits(one, two) == 1


def test_relative_error():
    expected = np.array([1.0, -4.0, np.inf])
    assert checks._relative(np.array([1.0, -4.4, np.inf]), expected) == pytest.approx(0.1)
    assert checks._relative(np.array([1.0, -4.0, 5.0]), expected) == np.inf
    assert checks._relative(np.array([0.5]), np.zeros(1)) == 0.5


class Threshold(torch.nn.Module):
    """Signs of values that are near their thresholds."""

    def forward(self, image, threshold):
        return torch.where(image * 3.0 >= threshold, 1.0, -1.0)


def test_bits_may_differ_only_near_the_threshold():
    image = torch.tensor([[1.0, 1.0 + 1e-7, 0.5, 2.0]])
    source = load_source(Threshold(), (image, torch.full((1, 4), 3.0)))
    made = compile_source(source, resolve("llvm", 1))

    def shifted(by):
        def spoil(call):
            return relax.op.greater_equal(call.args[0], relax.op.add(call.args[1], relax.const(np.float32(by))))

        class Spoil(DataflowRewriter):
            def rewrite(self, call, name):
                return spoil(call) if op_name(call) == "relax.greater_equal" else None

        module = run_rewriter(Spoil, made.optimized)
        figures = checks.teacher_forced(made.imported, module, source.inputs)
        return next(figure for figure in figures if figure.dtype == "bool")

    small_shift, large_shift = shifted(1e-6), shifted(0.5)
    assert small_shift.near >= 1 and small_shift.error == 0.0 and small_shift.exact_enough
    assert shifted(-2.0).error == 0.25 and not shifted(-2.0).exact_enough
    assert large_shift.near == 2 and large_shift.exact_enough


def test_distances_add_up():
    total = checks.Distance(1, 10, 2, 20) + checks.Distance(0, 10, 1, 20)
    assert total == checks.Distance(1, 20, 3, 40)
    assert str(total) == "1 of 20 bits flipped, 92.5000 % of 40 predictions equal"
    spread = checks.EndToEnd(checks.Distance(2, 10, 0, 4), checks.Distance(1, 10, 0, 4))
    assert spread.no_worse
    assert not checks.EndToEnd(checks.Distance(3, 10, 0, 4), checks.Distance(1, 10, 0, 4)).no_worse
