"""Shortcuts of an epilogue that depend on constants: PReLU as the larger of two, affine maps of what is counted.

Zeros are compared with their signs.
"""

import re

import numpy as np
import pytest
from tvm import relax
from tvm.relax.op import greater, multiply, where

from tests.schedules.test_registers import assembly
from tvm_bnn import ops
from tvm_bnn.reference import evaluate
from tvm_bnn.schedules.apply import machine_code

TARGETS = ["amx", "avx512", "avx512 by tables", "avx2", "generic", "neon"]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42, -1e-42, 3e38, -3e38, 1.0, -1.0, 2.0, -3.0]
SIZE = (3, 16)
SLOPES = {
    "all sorts below 1": [0.25, 1.0, -1.0, 1e-42, -0.5, 0.999, -2.0, 0.1],
    "one number": [0.25],
    "one above 1": [0.25, 1.5],
    "a zero": [0.25, 0.0],
    "a zero with a sign": [0.25, -0.0],
    "an infinite one": [0.25, -np.inf],
    "no number": [0.25, np.nan],
}
SCALES = {
    "all sorts": ([0.3, -0.7, 1e-42, -1e-30, 1e18, -2.0], [0.5, -0.5, 0.0, 1e-40, -7.0]),
    "zeros": ([0.0, -0.0, 0.5], [0.0, 1.0]),
    "zeros with a sign are added": ([0.0, -0.0, 0.5, -0.5], [0.0, -0.0]),
    "doubling leaves the numbers": ([3e38, 0.5], [0.0, 1.0]),
    "no numbers": ([np.nan, np.inf, 0.5], [1.0, np.nan]),
    "one number each": ([-0.25], [0.5]),
}


def repeated(numbers, count, dtype=np.float32):
    """[1, C, 1, 1] of some numbers over and over, or one number."""
    values = np.array(numbers, dtype)
    return relax.const(values[0] if len(values) == 1 else np.resize(values, count).reshape(1, count, 1, 1))


def prelu(slopes, turned=False):
    """A case: PReLU of an argument that has every special number in every channel, channels last in memory."""

    def build(case):
        channels = 64
        special = np.resize(np.array(SPECIAL, np.float32), SIZE[0] * SIZE[1])
        x = case.emit(multiply(case.argument(1, channels, *SIZE, data=np.tile(special, (1, channels, 1)).reshape(
            1, channels, *SIZE)), relax.const(np.float32(1))))  # fmt: skip
        slope = repeated(slopes, channels)
        product = case.emit(multiply(x, slope) if turned else multiply(slope, x))
        return case.emit(where(case.emit(greater(x, relax.const(np.float32(0)))), x, product))

    return build


def summed(case):
    """PReLU of values that only a sum reads, and that it computes itself."""
    x = case.argument(1, 33, *SIZE)
    product = case.emit(multiply(relax.const(np.float32(0.25)), x))
    bent = case.emit(where(case.emit(greater(x, relax.const(np.float32(0)))), x, product))
    return case.emit(relax.op.mean(bent, [2, 3], keepdims=True))


def projected(case):
    """PReLU, and bits of it, of a linear layer's one batch: loops of one iteration are read alike by both operands."""
    x = case.argument(1, 64, data=np.arange(64, dtype=np.float32).reshape(1, 64) - 31)
    weight = relax.const(np.resize(np.arange(-3, 4), (64, 32)).astype(np.float32))  # sums are exact in any order
    plane = case.emit(relax.op.reshape(case.emit(relax.op.matmul(x, weight)), (1, 32, 1, 1)))
    product = case.emit(multiply(plane, repeated(SLOPES["all sorts below 1"], 32)))
    value = case.emit(where(case.emit(greater(plane, relax.const(np.float32(0)))), plane, product))
    return relax.Tuple([value, case.positive(value)])


def counted(scales, shifts, inputs=64, kernel=3, pad_value=0):
    """A case: an affine map of a binary convolution, and bits of it."""

    def build(case):
        around = (kernel // 2,) * 4
        geometry = ops.BConv2DAttrs(padding=around, pad_value=pad_value)
        weight = case.signs(64, inputs, kernel, kernel)
        integer = case.emit(ops.bconv2d(case.bits(1, inputs, *SIZE), weight, geometry))
        value = case.emit(ops.affine(integer, repeated(scales, 64), repeated(shifts, 64)))
        return relax.Tuple([value, case.positive(value)])

    return build


CASES = {f"prelu, {name}": prelu(slopes) for name, slopes in SLOPES.items()}
CASES["prelu, product the other way round"] = prelu(SLOPES["all sorts below 1"], turned=True)
CASES["prelu, of what is summed"] = summed
CASES["prelu, of one batch"] = projected
CASES.update({f"affine, {name}": counted(*numbers) for name, numbers in SCALES.items()})
CASES["affine, odd sums"] = counted(*SCALES["all sorts"], inputs=33, kernel=1)
CASES["affine, odd sums inside"] = counted(*SCALES["all sorts"], inputs=33)
CASES["affine, padding 1"] = counted(*SCALES["all sorts"], pad_value=1)
CASES["affine, no padding"] = counted(*SCALES["zeros"], kernel=1)
CASES["affine, 2 x 2"] = counted(*SCALES["all sorts"], kernel=2)


def same_bits(mine, theirs):
    """Whether two arrays have the same bits, any NaN being like another."""
    if mine.dtype != np.float32:
        return np.array_equal(mine, theirs)
    return np.array_equal(np.isnan(mine), np.isnan(theirs)) and np.array_equal(
        np.nan_to_num(mine, nan=1).view(np.uint32), np.nan_to_num(theirs, nan=1).view(np.uint32)
    )


@pytest.mark.parametrize("target", TARGETS)
def test_no_bit_changes(build_cases, kernels, target_of, target):
    module, data, counts = build_cases(CASES, list(CASES), list(CASES))
    expected = list(evaluate(module, data))
    made = kernels(module, target_of(target))
    with made.ready() as run:
        got = run(data, made.constants(module))
    owners = [name for name, count in zip(CASES, counts, strict=True) for _ in range(count)]
    assert [n for n, m, e in zip(owners, got, expected, strict=True) if not same_bits(m, e)] == []


@pytest.mark.parametrize(("name", "taken"), [("all sorts below 1", True), ("one above 1", False), ("a zero", False)])
def test_prelu_is_one_instruction_where_slopes_allow(build_cases, scheduled, target_of, name, taken):
    target = target_of("avx512")
    cases = {"prelu": prelu(SLOPES[name])}
    code = assembly(machine_code(scheduled(build_cases(cases, ["prelu"], ["prelu"])[0], target)[1], target).mod)
    assert ("vmaxps" in code, "vcmpltps" in code) == (taken, not taken)


@pytest.mark.parametrize(("inputs", "left"), [(64, False), (33, True)])
def test_nothing_but_the_map_is_done_to_counts(build_cases, scheduled, target_of, inputs, left):
    target = target_of("avx512")
    cases = {"conv": counted(*SCALES["all sorts"], inputs=inputs, kernel=1)}
    code = assembly(machine_code(scheduled(build_cases(cases, ["conv"], ["conv"])[0], target)[1], target).mod)
    kernel = code[code.index("vpopcntd") :]
    assert bool(re.search(r"vpsub|vpslld", kernel[: kernel.index("retq")])) == left
