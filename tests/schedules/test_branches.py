"""Branches: convolutions that one epilogue adds up, what they read being copied, or expanded, once for all of them."""

from functools import reduce
from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.relax.op import add

from tests.schedules import test_binary_conv
from tvm_bnn import ops

TARGETS = ["amx", "avx512", "avx2", "generic", "avx512 by tables"]
FILLINGS = (("normal", "normal"), ("ties", "ties"), ("high", "high"), ("high", "low"), ("normal", "sparse"))


def same(kernel: int, dilation: int = 1, stride: int = 1, pad_value: int = 0) -> tuple[int, ops.BConv2DAttrs]:
    """A kernel that keeps the size at stride 1."""
    pad = kernel // 2 * dilation
    return kernel, ops.BConv2DAttrs((stride,) * 2, (pad,) * 4, (dilation,) * 2, pad_value=pad_value)


def branches(*kernels: tuple[int, ops.BConv2DAttrs], channels: int = 64, size=(6, 16), out: str = "both") -> Any:
    """A case: convolutions of the same bits, scaled and added up."""

    def build(case):
        bits, total = case.bits(1, channels, *size), None
        for kernel, geometry in kernels:
            value = case.scaled(case.emit(ops.bconv2d(bits, case.signs(64, channels, kernel, kernel), geometry)))
            total = value if total is None else case.emit(add(total, value))
        return test_binary_conv.outputs(case, total, out)

    return build


def gated(*kernels: tuple[int, ops.BConv2DAttrs], out: str = "both", channels: int = 64, filters: int = 64) -> Any:
    """A case: a soft gate, each branch with a share of their sum; what reads it are signs, maps, or both."""

    def build(case):
        bits = case.bits(1, channels, 6, 16)
        maps = []
        for kernel, geometry in kernels:
            integer = case.emit(ops.bconv2d(bits, case.signs(filters, channels, kernel, kernel), geometry))
            maps.append(case.emit(relax.op.nn.relu(case.scaled(integer))))
        total = reduce(lambda a, b: case.emit(add(a, b)), maps)
        rest = case.emit(relax.op.multiply(total, relax.const(np.float32(0.75))))
        results = []
        for value in maps:
            value = case.emit(add(case.emit(relax.op.multiply(value, relax.const(np.float32(0.25)))), rest))
            results += [value] if out in ("float", "both") else []
            results += [case.positive(case.scaled(value))] if out in ("bits", "both") else []
        return relax.Tuple(results)

    return build


CASES = {
    "of one kind": branches(same(3), same(3), same(3)),
    "of one kind, bits": branches(same(3), same(3), same(3), out="bits"),
    "rates": branches(same(3, 2), same(3, 3), same(3, 4)),
    "rates, a frame of +1": branches(same(3, 2, 1, 1), same(3, 3, 1, 1), same(3, 4, 1, 1), out="bits"),
    "rates, a frame of -1": branches(same(3, 4, 1, -1), same(3, 1, 1, -1)),
    "rates beyond the map": branches(same(3, 1), same(3, 9), size=(4, 16)),
    "kernels": branches(same(1), same(5), same(3)),
    "frames differ": branches(same(3), same(3, 2, 1, 1), same(5), same(3, 1, 1, 1), channels=33),
    "stride 2": branches(same(3, 1, 2), same(1, 1, 2), same(5, 2, 2), size=(8, 32)),
    "few columns": branches(same(3), same(5), same(3, 2), channels=160, size=(7, 7)),
    "few columns, bits": branches(same(3), same(1), same(3), channels=160, size=(7, 7), out="bits"),
    "rows and columns apart": branches(
        (3, ops.BConv2DAttrs(padding=(2, 0, 0, 2))), (3, ops.BConv2DAttrs(padding=(-1, 1, 3, 1))), size=(6, 18)
    ),
    "gated": gated(same(3), same(3), same(3)),
    "gated, bits": gated(same(3), same(3), same(3), out="bits"),
    "gated, floats": gated(same(3), same(3, 2), out="float"),
    "gated, 33 filters": gated(same(3), same(1), same(5), filters=33),
    "gated, five": gated(*[same(3)] * 5, out="bits"),
    "three channels": branches(same(3), same(3, 2), channels=3),
}


def test_equals_the_reference(grid, case, target, target_of):
    grid.check(case, target_of(target))


def stages(func, name: str) -> set[str]:
    """Stages of a kernel with this prefix."""
    return {block for block in func.script().split('"') if block.startswith(name)}


@pytest.mark.parametrize(("name", "stage"), [("amx", "bytes"), ("avx512", "pad"), ("avx2", "pad"), ("generic", "pad")])
@pytest.mark.parametrize(
    ("described", "copies"),
    [("of one kind", 1), ("rates", 1), ("kernels", 1), ("stride 2", 1), ("frames differ", 2), ("gated, five", 1)],
)
def test_rows_are_copied_once(build_cases, scheduled, target_of, name, stage, described, copies):
    module = scheduled(build_cases(CASES, [described], list(CASES))[0], target_of(name))[1]
    (kernel,) = (func for var, func in module.functions_items() if var.name_hint == "bconv2d")
    assert len(stages(kernel, stage)) == copies
