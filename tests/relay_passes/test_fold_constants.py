"""FoldConstants: calls whose operands are all constants become their values, as the evaluator computes them."""

import numpy as np
import torch
import tvm
from tvm import relax
from tvm.relax.op import add, multiply, reshape, sign, strided_slice

from tvm_bnn.relay_passes.fold_constants import FoldConstants, is_constant
from tvm_bnn.relay_passes.rewriter import bindings_of, shape_of


def constant(*shape: int) -> relax.Expr:
    return relax.const(np.linspace(-1, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape))


def test_weight_arithmetic_becomes_one_constant(build, run):
    weight = constant(2, 3)
    before = build(lambda x: multiply(x, sign(multiply(weight, relax.const(np.float32(2))))), (2, 3))
    expected = build(lambda x: multiply(x, relax.const(np.sign(weight.value.numpy()))), (2, 3))
    tvm.ir.assert_structural_equal(run(before, FoldConstants()), expected)


def test_shapes_and_slices_of_constants_fold(build, run):
    before = build(lambda x: add(x, reshape(strided_slice(constant(4, 3), [0], [1], [3]), (3, 2))), (3, 2))
    after = run(before, FoldConstants())
    part = constant(4, 3).value.numpy()[1:3].reshape(3, 2)
    tvm.ir.assert_structural_equal(after, build(lambda x: add(x, relax.const(part)), (3, 2)))


def test_a_scalar_stays_a_scalar(build, run):
    before = build(lambda x: add(x, relax.op.take(constant(3), relax.const(1), axis=0)), (2,))
    tvm.ir.assert_structural_equal(run(before, FoldConstants()), build(lambda x: add(x, relax.const(0.5)), (2,)))


def test_tuples_of_constants_fold(build, run):
    def halves(x):
        parts = relax.BlockBuilder.current().emit(relax.op.split(constant(4), 2))
        return add(x, relax.TupleGetItem(parts, 1))

    after = run(build(halves, (2,)), FoldConstants())
    tvm.ir.assert_structural_equal(after, build(lambda x: add(x, relax.const(constant(4).value.numpy()[2:])), (2,)))


def test_declines_what_reads_an_input(build, run):
    before = build(lambda x: add(multiply(x, constant(2, 3)), constant(2, 3)), (2, 3))
    tvm.ir.assert_structural_equal(run(before, FoldConstants()), before)


def test_declines_operators_without_a_reference(build, run, operators):
    before = build(lambda x: add(x, relax.op.cumsum(constant(4), 0)), (4,))
    assert operators(run(before, FoldConstants())) == ["relax.cumsum", "relax.add"]


def test_keeps_the_values_of_an_imported_layer(imported, run, agree, operators):
    weight = torch.nn.Parameter(torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)))

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = weight

        def forward(self, x):
            scale = self.weight.abs().mean(dim=(1, 2, 3), keepdim=True)
            return torch.nn.functional.conv2d(x, torch.sign(self.weight) * scale)

    before = imported(Layer(), torch.zeros(1, 3, 5, 5))
    after = run(before, FoldConstants())
    assert operators(after) == ["relax.nn.conv2d"]
    agree(before, after)


def test_a_tensor_of_equal_numbers_is_a_number(imported, run, agree, operators):
    """Nothing is stored at the size of a map, and a later pass sees constants."""

    def function(x):
        signs = torch.where(x < 0, -torch.ones_like(x), torch.ones_like(x))
        return signs * torch.full_like(x, 0.5) + torch.zeros(2, 3, 4, 4), torch.zeros_like(x)

    before = imported(function, torch.zeros(2, 3, 4, 4))
    after = run(before, FoldConstants())
    assert operators(after) == ["relax.less", "relax.where", "relax.multiply", "relax.add"]
    sizes = [
        int(np.prod(shape_of(argument)))
        for binding in bindings_of(after["main"])
        if isinstance(binding.value, relax.Call)
        for argument in binding.value.args
        if is_constant(argument)
    ]
    assert sizes == [1] * len(sizes) and len(sizes) >= 5
    agree(before, after)
