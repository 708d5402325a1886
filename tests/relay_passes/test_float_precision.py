"""FloatPrecision: float layers on operands of 8 bits or bfloat16, within the bound that rounding them allows."""

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.op import matmul, multiply
from tvm.relax.op.nn import conv2d, conv2d_transpose, relu

from tests.relay_passes.conftest import emit
from tvm_bnn import ops
from tvm_bnn.arithmetic import bfloat16, tfloat32
from tvm_bnn.reference import evaluate
from tvm_bnn.relay_passes.decisions import Decisions, Layer
from tvm_bnn.relay_passes.float_precision import activations, quantized_filters, reduce_precision
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def records(module: tvm.IRModule) -> Decisions:
    """A record for each layer, as conversion leaves them."""
    layers = [
        Layer("net", op_name(binding.value), "", 0, binding.var.name)
        for binding in bindings_of(module["main"])
        if "conv2d" in op_name(binding.value) or op_name(binding.value) == "relax.matmul"
    ]
    return Decisions(layers)


def operators(module: tvm.IRModule) -> list[str]:
    return [op_name(binding.value) for binding in bindings_of(module["main"])]


LAYERS = {
    "convolution": (lambda x: conv2d(x, relax.const(weights(4, 3, 3, 3)), padding=1, strides=2), (2, 3, 7, 9)),
    "dilation": (lambda x: conv2d(x, relax.const(weights(4, 3, 3, 3)), padding=(0, 2, 1, 0), dilation=2), (1, 3, 7, 9)),
    "linear": (lambda x: matmul(x, relax.const(weights(33, 5))), (4, 33)),
    "linear of tokens": (lambda x: matmul(x, relax.const(weights(33, 5))), (2, 3, 33)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_int8_is_within_half_a_unit_of_each_operand(build, name):
    make, shape = LAYERS[name]
    module = build(make, shape)
    data = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    decisions = records(module)
    most = dict.fromkeys(activations(module), float(np.abs(data).max()))
    after = reduce_precision(module, decisions, "int8", most)
    (layer,) = decisions.layers
    assert (layer.precision, layer.stays_fp32) == ("int8", "")
    made = [b for b in bindings_of(after["main"]) if b.var.name == layer.value]
    assert [str(b.var.ty.dtype) for b in made] == ["int32"]
    (found,), (wanted,) = evaluate(after, [data]), evaluate(module, [data])
    assert found.shape == wanted.shape
    # |xw - x'w'| <= |x| t/2 + |w| s/2 + st/4 with units s and t of the operands, over the products of a sum
    weight = np.float64(weights(33, 5).T if "linear" in name else weights(4, 3, 3, 3))
    unit, units = np.abs(data).max() / 127, quantized_filters(weight)[1]
    products = weight[0].size
    allowed = max(
        np.abs(data).max() * t / 2 * products + np.abs(w).sum() * unit / 2 + unit * t / 4 * products
        for w, t in zip(weight, units, strict=True)
    )
    assert 0 < np.abs(found - wanted).max() <= allowed
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("precision", "rounds", "relative"), [("bf16", bfloat16, 0.02), ("tf32", tfloat32, 0.0025)], ids=["bf16", "tf32"]
)
@pytest.mark.parametrize("name", LAYERS)
def test_floats_are_the_layer_on_rounded_operands(build, name, precision, rounds, relative):
    make, shape = LAYERS[name]
    module = build(make, shape)
    data = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    decisions = records(module)
    after = reduce_precision(module, decisions, precision, {})
    assert decisions.layers[0].precision == precision and f"bnn.{rounds.__name__}" in operators(after)
    (found,), (wanted,) = evaluate(after, [data]), evaluate(module, [data])
    assert 0 < np.abs(found - wanted).max() < relative * np.abs(wanted).max()
    exact = rounds(weights(4, 3, 3, 3))
    rounded = build(lambda x: conv2d(x, relax.const(exact), padding=1), (1, 3, 7, 9))
    again = reduce_precision(rounded, records(rounded), precision, {})
    image = rounds(np.random.default_rng(3).standard_normal((1, 3, 7, 9)).astype(np.float32))
    np.testing.assert_array_equal(evaluate(again, [image])[0], evaluate(rounded, [image])[0])


def test_weights_use_the_whole_range_and_keep_zeros():
    integers, units = quantized_filters(np.array([[0.5, -1.0, 0.004], [0, 0, 0], [3, 3, -3]], np.float32))
    np.testing.assert_array_equal(integers, [[64, -127, 1], [0, 0, 0], [127, 127, -127]])
    np.testing.assert_allclose(units, [1 / 127, 1, 3 / 127])


def test_the_factor_joins_the_affine_map_behind(build):
    scale = relax.const(weights(1, 4, 1, 1))

    def net(x):
        return ops.affine(emit(conv2d(x, relax.const(weights(4, 3, 3, 3)))), scale, scale)

    module = build(net, (1, 3, 7, 9))
    (name,) = activations(module)
    after = reduce_precision(module, records(module), "int8", {name: 1.0})
    assert [name for name in operators(after) if name] == ["bnn.quantize", "relax.nn.conv2d", "bnn.affine"]


def test_layers_that_read_the_same_are_rounded_once(build):
    def net(x):
        return relax.Tuple([emit(conv2d(x, relax.const(weights(4, 3, k, k)), padding=k // 2)) for k in (1, 3)])

    module = build(net, (1, 3, 7, 9))
    after = reduce_precision(module, records(module), "int8", dict.fromkeys(activations(module), 1.0))
    assert operators(after).count("bnn.quantize") == 1


def test_an_input_of_zeros_is_no_division_by_zero(build):
    module = build(LAYERS["convolution"][0], (1, 3, 7, 9))
    after = reduce_precision(module, records(module), "int8", dict.fromkeys(activations(module), 0.0))
    assert np.all(evaluate(after, [np.zeros((1, 3, 7, 9), np.float32)])[0] == 0)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda x, w: conv2d(x, w), "its weights are not constant"),
        (lambda x, w: conv2d(x, relax.const(weights(3, 1, 3, 3)), groups=3), "its channels are in groups"),
        (lambda x, w: conv2d(x, relax.const(np.full((3, 3, 1, 1), np.inf, np.float32))), "its weights are not finite"),
        (lambda x, w: conv2d_transpose(x, relax.const(weights(3, 3, 3, 3))), "there are fp32 kernels only"),
        (lambda x, w: matmul(x, relax.const(weights(1, 3, 9, 2))), "there are fp32 kernels only"),
    ],
)
@pytest.mark.parametrize("precision", ["int8", "bf16", "tf32"])
def test_declines_and_says_why(build, make, reason, precision):
    module = build(lambda x, w: make(emit(relu(x)), emit(multiply(w, w))), (1, 3, 7, 9), (3, 3, 3, 3))
    decisions = records(module)
    after = reduce_precision(module, decisions, precision, {})
    (layer,) = decisions.layers
    assert layer.precision == "fp32" and layer.stays_fp32.startswith(reason)
    assert not {"bnn.quantize", "bnn.bfloat16", "bnn.tfloat32"} & set(operators(after))
