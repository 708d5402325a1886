"""HoistBits: comparisons move before rearrangements, as written, and nothing changes."""

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.op import add, concat, greater, greater_equal, less, less_equal, logical_not, permute_dims, reshape
from tvm.relax.op.image import resize2d
from tvm.relax.op.nn import max_pool2d

from tvm_bnn.relay_passes.hoist_bits import HoistBits

SHAPE = (1, 4, 6, 6)


def number(value):
    return relax.const(np.full((1, 1, 1, 1), value, np.float32))


def a_channel(channels, first=0):
    return relax.const(np.arange(first, first + channels, dtype=np.float32).reshape(1, -1, 1, 1) / 4)


def nearest(x):
    return resize2d(
        x,
        (12, 12),
        layout="NCHW",
        method="nearest_neighbor",
        coordinate_transformation_mode="asymmetric",
        rounding_method="floor",
    )


def pooled(x):
    return max_pool2d(x, (2, 2), strides=(2, 2))


PAIRS = {
    "nearest": (
        lambda x, e: greater_equal(e(nearest(x)), a_channel(4)),
        lambda x, e: nearest(e(greater_equal(x, a_channel(4)))),
    ),
    "max-pool": (lambda x, e: greater(e(pooled(x)), a_channel(4)), lambda x, e: pooled(e(greater(x, a_channel(4))))),
    "max-pool, below": (
        lambda x, e: less(e(pooled(x)), number(1)),
        lambda x, e: logical_not(e(pooled(e(greater_equal(x, number(1)))))),
    ),
    "concat": (
        lambda x, e: less_equal(e(concat([x, x], 1)), a_channel(8)),
        lambda x, e: concat([e(less_equal(x, a_channel(4))), e(less_equal(x, a_channel(4, 4)))], 1),
    ),
    "permute": (
        lambda x, e: greater(e(permute_dims(x, (0, 2, 1, 3))), relax.const(np.ones((1, 1, 4, 1), np.float32) * 2)),
        lambda x, e: permute_dims(e(greater(x, number(2))), (0, 2, 1, 3)),
    ),
    "permute, a channel": (
        lambda x, e: greater(
            e(permute_dims(x, (0, 2, 1, 3))), relax.const(np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1))
        ),
        lambda x, e: permute_dims(
            e(greater(x, relax.const(np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1)))), (0, 2, 1, 3)
        ),
    ),
    "reshape": (
        lambda x, e: greater(e(reshape(x, (1, 8, 3, 6))), number(0)),
        lambda x, e: reshape(e(greater(x, number(0))), (1, 8, 3, 6)),
    ),
    "two views": (
        lambda x, e: greater(e(pooled(e(nearest(x)))), number(0)),
        lambda x, e: pooled(e(nearest(e(greater(x, number(0)))))),
    ),
}


@pytest.mark.parametrize(("before", "expected"), PAIRS.values(), ids=list(PAIRS))
def test_a_comparison_moves(build, run, agree, emit, before, expected):
    module = build(lambda x: before(x, emit), SHAPE)
    after = run(module, HoistBits())
    tvm.ir.assert_structural_equal(after, build(lambda x: expected(x, emit), SHAPE))
    agree(module, after)


KEPT = {
    "another reader": lambda x, e: relax.Tuple([e(greater((y := e(nearest(x))), number(0))), y]),
    "a threshold a pixel": lambda x, e: greater(
        e(nearest(x)), relax.const(np.arange(144, dtype=np.float32).reshape(1, 1, 12, 12))
    ),
    "a threshold of data": lambda x, e: greater(e(nearest(x)), e(nearest(x))),
    "no view": lambda x, e: greater(e(add(x, x)), number(0)),
    "channels that mix": lambda x, e: greater(e(reshape(x, (1, 8, 3, 6))), a_channel(8)),
}


@pytest.mark.parametrize("function", KEPT.values(), ids=list(KEPT))
def test_declines_the_rest(build, run, emit, function):
    module = build(lambda x: function(x, emit), SHAPE)
    tvm.ir.assert_structural_equal(run(module, HoistBits()), module)
