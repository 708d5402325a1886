"""Tests of integers: thresholds, intervals and their complements, as one number for all filters or one for each."""

import itertools

import numpy as np
import pytest
from tvm import relax

from tvm_bnn import ops

FILTERS = 5
LOWEST: list[int | list[int]] = [-(2**31), -7, 5, [-(2**31), -3, 5, 1, -1], [-1, -3, 5, 1, -1]]
SPANS: list[int | list[int]] = [
    2**31 - 1, 3, 2**31 + 594, 2**32 - 6, [2**31 - 1, 2**32 - 6, 1, 2, 2**32 - 1], [2**31 + 1, 2**32 - 6, 3, 2, 0],
]  # fmt: skip
PAIRS = list(itertools.product(LOWEST, SPANS))


def column(numbers, dtype):
    return relax.const(np.broadcast_to(np.array(numbers, np.int64), FILTERS).astype(dtype).reshape(1, -1, 1, 1))


def interval(lowest, span):
    def build(case):
        data, weight = case.bits(1, 33, 3, 7), case.signs(FILTERS, 33, 1, 1)
        integer = case.emit(ops.bconv2d(data, weight, ops.BConv2DAttrs()))
        tested = ops.interval(integer, column(lowest, "int32"), column(span, "uint32"))
        return relax.Tuple([integer, case.emit(tested)])

    return build


@pytest.mark.parametrize("target", ["avx512", "avx2", "generic"])
def test_wraps_around(build_cases, compile_and_run, target_of, target):
    cases = {str(number): interval(*pair) for number, pair in enumerate(PAIRS)}
    module, data, _ = build_cases(cases, list(cases), list(cases))
    results = compile_and_run(module, data, target_of(target))
    for number, (lowest, span) in enumerate(PAIRS):
        integer, bits = results[2 * number : 2 * number + 2]
        first, last = (np.broadcast_to(np.array(v, np.int64), FILTERS).reshape(1, -1, 1, 1) for v in (lowest, span))
        np.testing.assert_array_equal(bits, (integer.astype(np.int64) - first) % 2**32 <= last, str((lowest, span)))


@pytest.mark.parametrize("target", ["avx512", "avx2", "generic"])
@pytest.mark.parametrize("span", [8, 2**32 - 9])
def test_windows_outside_of_the_map(build_cases, compile_and_run, target_of, target, span):
    """The sum of no taps is the number 0 to LLVM, which takes it that even unsigned differences do not wrap around."""

    def build(case):
        geometry = ops.BConv2DAttrs(padding=(0, 1, 2, 0), strides=(1, 2))
        integer = case.emit(ops.bconv2d(case.bits(1, 1, 2, 2), case.signs(33, 1, 2, 2), geometry))
        lowest = np.arange(-20, 13).astype(np.int32).reshape(1, -1, 1, 1)
        tested = ops.interval(integer, relax.const(lowest), relax.const(np.full((1, 1, 1, 1), span, np.uint32)))
        return relax.Tuple([case.emit(tested)])

    module, data, _ = build_cases({"case": build}, ["case"], ["case"])
    (bits,) = compile_and_run(module, data, target_of(target))
    ahead = (0 - np.arange(-20, 13)) % 2**32
    np.testing.assert_array_equal(bits[0, :, 2, 0], ahead <= span)
