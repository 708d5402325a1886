"""Words of bits through reshapes: channels of a batch are no channels of one image."""

import numpy as np
import pytest
from tvm import relax
from tvm.relax.op import flip, permute_dims, reshape

from tvm_bnn import ops
from tvm_bnn.reference import evaluate


def flattened(case):
    """[1, 64, 2, 2] as [1, 256, 1, 1], the channels of a pixel side by side: whole words move."""
    pixels = case.emit(permute_dims(case.emit(reshape(case.bits(1, 64, 2, 2), (64, 4))), (1, 0)))
    return ops.bconv2d(case.emit(reshape(pixels, (1, 256, 1, 1))), case.signs(33, 256, 1, 1), ops.BConv2DAttrs())


def batch_as_channels(case):
    data = case.emit(reshape(case.bits(4, 64, 1, 1), (1, 256, 1, 1)))
    return ops.bconv2d(data, case.signs(33, 256, 1, 1), ops.BConv2DAttrs())


def channels_as_batch(case):
    data = case.emit(reshape(case.bits(1, 256, 1, 1), (4, 64, 1, 1)))
    return ops.bconv2d(data, case.signs(33, 64, 1, 1), ops.BConv2DAttrs())


def without_planes(case):
    data = case.emit(reshape(case.emit(reshape(case.bits(2, 96, 1, 1), (2, 96))), (2, 96, 1, 1)))
    return ops.bconv2d(data, case.signs(33, 96, 1, 1), ops.BConv2DAttrs())


def flipped(case):
    """Pixels of a block beside each other as channels, these in reverse."""
    rows = case.emit(reshape(case.emit(flip(case.bits(1, 8, 8, 8), 1)), (32, 2, 4, 2)))
    data = case.emit(reshape(case.emit(permute_dims(rows, (1, 3, 0, 2))), (1, 32, 4, 4)))
    return ops.bconv2d(data, case.signs(4, 32, 3, 3), ops.BConv2DAttrs(padding=(1, 1, 1, 1)))


CASES = {each.__name__: each for each in (flattened, batch_as_channels, channels_as_batch, without_planes, flipped)}


@pytest.mark.parametrize("target", ["avx512", "avx2", "generic"])
def test_equals_the_reference(build_cases, compile_and_run, target_of, target):
    cases = {name: lambda case, make=make: relax.Tuple([case.emit(make(case))]) for name, make in CASES.items()}
    module, data, _ = build_cases(cases, list(cases), list(cases))
    for name, mine, expected in zip(
        cases, compile_and_run(module, data, target_of(target)), evaluate(module, data), strict=True
    ):
        np.testing.assert_array_equal(mine, expected, name)
