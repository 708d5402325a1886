"""FoldAffine: constant affine maps that follow one another become one."""

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.op import add, divide, exp, multiply, negative, subtract

from tvm_bnn import ops
from tvm_bnn.relay_passes.fold_affine import FoldAffine

SHAPE = (2, 3, 4, 5)


def number(value: float) -> relax.Expr:
    return relax.const(np.float32(value))


def channels(*values: float) -> relax.Expr:
    return relax.const(np.array(values, np.float32).reshape(1, -1, 1, 1))


A, B, C, D = channels(2, -0.5, 3), channels(1, 0, -7), channels(0.25, 8, 0), channels(0.5, 2, -3)

# what is written -> scale and shift of the one map that is left
FOLDED = {
    "affine, affine": (lambda x: ops.affine(ops.affine(x, A, B), C, D), (0.5, -4, 0), (0.75, 2, -3)),
    "affine, * c": (lambda x: multiply(ops.affine(x, A, B), C), (0.5, -4, 0), (0.25, 0, 0)),
    "c * affine": (lambda x: multiply(C, ops.affine(x, A, B)), (0.5, -4, 0), (0.25, 0, 0)),
    "affine, / c": (lambda x: divide(ops.affine(x, A, B), number(4)), (0.5, -0.125, 0.75), (0.25, 0, -1.75)),
    "affine, + d": (lambda x: add(ops.affine(x, A, B), D), (2, -0.5, 3), (1.5, 2, -10)),
    "d + affine": (lambda x: add(D, ops.affine(x, A, B)), (2, -0.5, 3), (1.5, 2, -10)),
    "affine, - d": (lambda x: subtract(ops.affine(x, A, B), D), (2, -0.5, 3), (0.5, -2, -4)),
    "* a, affine": (lambda x: ops.affine(multiply(x, A), C, D), (0.5, -4, 0), (0.5, 2, -3)),
    "+ b, affine": (lambda x: ops.affine(add(x, B), C, D), (0.25, 8, 0), (0.75, 2, -3)),
    "three in a row": (
        lambda x: add(multiply(ops.affine(x, A, B), number(2)), number(1)), (4, -1, 6), (3, 1, -13),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("written", "scale", "shift"), FOLDED.values(), ids=list(FOLDED))
def test_chains_become_one_map(build, run, agree, written, scale, shift):
    before = build(written, SHAPE)
    after = run(before, FoldAffine())
    tvm.ir.assert_structural_equal(after, build(lambda x: ops.affine(x, channels(*scale), channels(*shift)), SHAPE))
    # these coefficients are short binary fractions, yet the rounding of what was in between is gone
    agree(before, after, relative=1e-6)


def test_an_integer_accumulator_is_a_fine_start(build, run, agree, operators):
    weight = relax.const(np.random.default_rng(0).random((3, 3, 3, 3)) < 0.5)
    before = build(
        lambda x: multiply(ops.affine(ops.bconv2d(x, weight, ops.BConv2DAttrs()), A, B), C), SHAPE, dtypes=["bool"]
    )
    after = run(before, FoldAffine())
    assert operators(after) == ["bnn.bconv2d", "bnn.affine"]
    agree(before, after, relative=1e-6)


def with_two_readers(x):
    inner = relax.BlockBuilder.current().emit(ops.affine(x, A, B))
    return add(exp(inner), ops.affine(inner, C, D))


DECLINED = {
    "the inner map has another reader": with_two_readers,
    "the inner map is a result": lambda x: relax.Tuple([i := emit_affine(x), multiply(i, C)]),
    "neither is an affine map": lambda x: add(multiply(x, A), B),
    "something in between": lambda x: ops.affine(negative(ops.affine(x, A, B)), C, D),
    "constant - affine": lambda x: subtract(D, ops.affine(x, A, B)),
    "constant / affine": lambda x: divide(D, ops.affine(x, A, B)),
    "division by zero": lambda x: divide(ops.affine(x, A, B), channels(1, 0, 2)),
    "the second operand varies": lambda x: multiply(ops.affine(x, A, B), x),
    "the outer map broadcasts": lambda x: add(
        ops.affine(relax.op.mean(x, [2, 3], keepdims=True), A, B), relax.const(np.ones(SHAPE, np.float32))
    ),
}


def emit_affine(x):
    return relax.BlockBuilder.current().emit(ops.affine(x, A, B))


@pytest.mark.parametrize("written", DECLINED.values(), ids=list(DECLINED))
def test_declines_the_rest(build, run, written):
    before = build(written, SHAPE)
    tvm.ir.assert_structural_equal(run(before, FoldAffine()), before)


def test_products_are_taken_in_double(build, run):
    third = np.float32(1) / np.float32(3)
    after = run(build(lambda x: multiply(multiply_affine(x, third), number(third)), SHAPE), FoldAffine())
    scale = after["main"].body.blocks[0].bindings[0].value.args[1].value.numpy()
    assert scale.reshape(()) == np.float32(np.float64(third) * np.float64(third))


def multiply_affine(x, scale):
    return ops.affine(x, number(scale), number(0))
