"""Our Relax operators: the types they infer, what they refuse, and attributes that survive the journey."""

from dataclasses import replace

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.ops import BConv2DAttrs


def normalized(call: relax.Call) -> relax.Call:
    return relax.BlockBuilder().normalize(call)


def var(*shape: int, dtype: str = "bool") -> relax.Var:
    return relax.Var("x", relax.TensorType(shape, dtype))


@pytest.mark.parametrize(
    ("attrs", "weight", "expected"),
    [
        (BConv2DAttrs(), (8, 6, 3, 3), (2, 8, 5, 7)),
        (BConv2DAttrs(padding=(1, 0, 2, 3)), (8, 6, 3, 3), (2, 8, 8, 10)),
        (BConv2DAttrs(strides=(2, 3)), (8, 6, 3, 3), (2, 8, 3, 3)),
        (BConv2DAttrs(dilation=(3, 2)), (8, 6, 3, 3), (2, 8, 1, 5)),
        (BConv2DAttrs(groups=3), (9, 2, 1, 1), (2, 9, 7, 9)),
    ],
    ids=str,
)
def test_bconv2d_infers_its_type(attrs, weight, expected):
    call = normalized(ops.bconv2d(var(2, 6, 7, 9), var(*weight), attrs))
    tvm.ir.assert_structural_equal(call.ty, relax.TensorType(expected, "int32"))


@pytest.mark.parametrize(
    ("data", "weight", "attrs", "message"),
    [
        (var(1, 6, 7, 7, dtype="float32"), var(8, 6, 3, 3), BConv2DAttrs(), "takes bool tensors, got float32 and bool"),
        (var(1, 6, 7, 7), var(8, 6, 3, 3, dtype="int8"), BConv2DAttrs(), "takes bool tensors, got bool and int8"),
        (var(1, 6, 7, 7), var(8, 5, 3, 3), BConv2DAttrs(), r"6 channels, weight \[8, 5, 3, 3\], 1 groups"),
        (var(1, 6, 7, 7), var(8, 2, 3, 3), BConv2DAttrs(groups=3), r"6 channels, weight \[8, 2, 3, 3\], 3 groups"),
    ],
)
def test_bconv2d_refuses(data, weight, attrs, message):
    with pytest.raises((TypeError, ValueError), match=message):
        normalized(ops.bconv2d(data, weight, attrs))


def test_affine_keeps_the_shape_and_gives_floats():
    constant = relax.const(np.ones((1, 3, 1, 1), np.float32))
    call = normalized(ops.affine(var(2, 3, 4, 5, dtype="int32"), constant, constant))
    tvm.ir.assert_structural_equal(call.ty, relax.TensorType((2, 3, 4, 5), "float32"))


def test_weighted_mean_has_the_plane_of_its_scores():
    scores, values = var(2, 7, 4, 5, dtype="int32"), var(2, 3, 1, 7, dtype="float32")
    call = normalized(ops.weighted_mean(scores, values, var(9, dtype="float32")))
    tvm.ir.assert_structural_equal(call.ty, relax.TensorType((2, 3, 4, 5), "float32"))


@pytest.mark.parametrize(
    ("scores", "values", "message"),
    [
        (var(2, 7, 4, 5), var(2, 3, 1, 7, dtype="float32"), "takes int32 scores"),
        (var(2, 7, 4, 5, dtype="int32"), var(2, 3, 1, 8, dtype="float32"), r"\[2, 7, 4, 5\], \[2, 3, 1, 8\]"),
    ],
)
def test_weighted_mean_refuses(scores, values, message):
    with pytest.raises((TypeError, ValueError), match=message):
        normalized(ops.weighted_mean(scores, values, var(9, dtype="float32")))


def test_border_bias_has_the_size_of_its_classes():
    call = normalized(ops.border_bias(var(8, 3, 2, dtype="float32"), [0, 1, 1, 2], [0, 1, 0]))
    tvm.ir.assert_structural_equal(call.ty, relax.TensorType((1, 8, 4, 3), "float32"))


def test_attributes_return_from_a_call():
    attrs = BConv2DAttrs((2, 1), (1, 2, 3, 4), (3, 2), 4, -1)
    assert BConv2DAttrs.from_call(ops.bconv2d(var(1, 8, 9, 9), var(4, 2, 1, 1), attrs).attrs) == attrs
    assert replace(attrs, pad_value=1).as_dict() == {
        "strides": [2, 1], "padding": [1, 2, 3, 4], "dilation": [3, 2], "groups": 4, "pad_value": 1,
    }  # fmt: skip


def test_the_layer_path_travels_as_span():
    span = tvm.ir.Span(tvm.ir.SourceName("encoder.conv1"), 0, 0, 0, 0)
    call = ops.bconv2d(var(1, 6, 7, 7), var(8, 6, 3, 3), BConv2DAttrs(), span)
    assert normalized(call).span.source_name.name == "encoder.conv1"


def test_registering_again_changes_nothing():
    ops.register()
    assert ops.is_op(ops.affine(var(1), var(1), var(1)), "bnn.affine")
    assert not ops.is_op(var(1), "bnn.affine")
