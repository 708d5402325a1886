"""HoistUpsample: elementwise work moves to the low resolution, bit for bit."""

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.op import add, clip, concat, exp, greater_equal, multiply, where
from tvm.relax.op.image import resize2d

from tvm_bnn import ops
from tvm_bnn.relay_passes.hoist_upsample import HoistUpsample, is_nearest

LOW, HIGH = (2, 3, 4, 5), (8, 10)


def up(x, size=HIGH, method="nearest_neighbor", mode="asymmetric", rounding="floor"):
    return resize2d(
        x, size, layout="NCHW", method=method, coordinate_transformation_mode=mode, rounding_method=rounding
    )


def constant(*shape: int) -> relax.Expr:
    return relax.const(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


SCALE, ONE_PIXEL, NUMBER = constant(1, 3, 1, 1), constant(2, 3, 1, 1), relax.const(np.float32(0.25))

HOISTED = {
    "one operand": lambda x, u: exp(u(x)),
    "a number": lambda x, u: greater_equal(u(x), NUMBER),
    "a constant per channel": lambda x, u: multiply(u(x), SCALE),
    "a constant per channel, first": lambda x, u: multiply(SCALE, u(x)),
    "a constant per image and channel": lambda x, u: add(u(x), ONE_PIXEL),
    "an affine map": lambda x, u: ops.affine(u(x), SCALE, SCALE),
    "literal bounds": lambda x, u: clip(u(x), -0.5, 0.5),
    "a choice": lambda x, u: where(greater_equal(u(x), NUMBER), NUMBER, SCALE),
    "one-element vectors": lambda x, u: add(u(x), constant(1)),
    "a plane-free activation": lambda x, u: multiply(u(x), relax.op.mean(x, [2, 3], keepdims=True)),
    "two maps": lambda x, u: add(u(x), u(exp(x))),
}


@pytest.mark.parametrize("written", HOISTED.values(), ids=list(HOISTED))
def test_elementwise_work_moves_before_the_upsampling(build, run, agree, written):
    before = build(lambda x: written(x, up), LOW)
    after = run(before, HoistUpsample())
    tvm.ir.assert_structural_equal(after, build(lambda x: up(written(x, lambda value: value)), LOW))
    agree(before, after)


def test_a_chain_moves_as_a_whole(build, run, agree, operators):
    before = build(lambda x: greater_equal(ops.affine(exp(up(x)), SCALE, SCALE), NUMBER), LOW)
    after = run(before, HoistUpsample())
    assert operators(after) == ["relax.exp", "bnn.affine", "relax.greater_equal", "relax.image.resize2d"]
    agree(before, after)


@pytest.mark.parametrize("size", [(7, 13), (2, 2), (4, 5)], ids=str)
def test_any_factor_will_do(build, run, agree, operators, size):
    before = build(lambda x: exp(up(x, size)), LOW)
    after = run(before, HoistUpsample())
    assert operators(after) == ["relax.exp", "relax.image.resize2d"]
    agree(before, after)


ONES = relax.const(np.random.default_rng(1).random((4, 3, 1, 1)) < 0.5)


@pytest.mark.parametrize("size", [HIGH, (12, 15), (16, 20), (7, 13)], ids=str)
@pytest.mark.parametrize("kind", ["bits", "float"])
def test_a_convolution_with_one_tap_moves_and_what_follows_it(build, run, agree, size, kind):
    def written(x, up):
        if kind == "float":
            return clip(relax.op.nn.conv2d(up(x), constant(4, 3, 1, 1)), 0, 1)
        return ops.affine(
            ops.bconv2d(up(greater_equal(x, NUMBER)), ONES, ops.BConv2DAttrs()),
            constant(1, 4, 1, 1),
            constant(1, 4, 1, 1),
        )

    before = build(lambda x: written(x, lambda value: up(value, size)), LOW)
    after = run(before, HoistUpsample())
    tvm.ir.assert_structural_equal(after, build(lambda x: up(written(x, lambda value: value), size), LOW))
    agree(before, after)


DECLINED = {
    "a full-resolution constant": lambda x, y: add(up(x), constant(1, 1, *HIGH)),
    "a constant along the width": lambda x, y: add(up(x), constant(HIGH[1])),
    "a constant along the height": lambda x, y: add(up(x), constant(HIGH[0], 1)),
    "a full-resolution activation": lambda x, y: multiply(up(x), y),
    "two maps of different sizes": lambda x, y: add(up(x), up(relax.op.strided_slice(x, [2], [0], [2]))),
    "another rounding": lambda x, y: add(up(x), up(x, rounding="ceil")),
    "bilinear": lambda x, y: exp(up(x, method="linear", mode="half_pixel")),
    "a result that broadcasts": lambda x, y: add(up(relax.op.mean(x, [1], keepdims=True)), SCALE),
    "no elementwise operator": lambda x, y: concat([up(x), y], 1),
    "three taps": lambda x, y: relax.op.nn.conv2d(up(x), constant(4, 3, 1, 3)),
    "one tap with a stride": lambda x, y: relax.op.nn.conv2d(up(x), constant(4, 3, 1, 1), strides=2),
    "one tap with padding": lambda x, y: relax.op.nn.conv2d(up(x), constant(4, 3, 1, 1), padding=1),
    "one tap behind fewer pixels": lambda x, y: relax.op.nn.conv2d(up(x, (2, 2)), constant(4, 3, 1, 1)),
    "a reduction": lambda x, y: relax.op.mean(up(x), [2, 3]),
}


@pytest.mark.parametrize("written", DECLINED.values(), ids=list(DECLINED))
def test_declines_the_rest(build, run, written):
    before = build(written, LOW, (2, 3, *HIGH))
    tvm.ir.assert_structural_equal(run(before, HoistUpsample()), before)


def test_is_nearest(build, operators):
    module = build(lambda x: add(exp(up(up(x, method="linear", mode="half_pixel"), (3, 3))), NUMBER), LOW)
    values = [binding.value for binding in module["main"].body.blocks[0].bindings]
    assert [is_nearest(value) for value in values] == [False, True, False, False, False]
