"""Which tensors must exist, how many multiply-accumulates there are, and what both cost."""

import numpy as np
import pytest
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.report.limit import Work, work_of
from tvm_bnn.report.machine import MB, Limits

CHANNELS, SIZE = 64, 8
MAP = CHANNELS * SIZE * SIZE * 4
BITS = MAP // 32
SAME = {"padding": (1, 1)}


def constant(*shape, dtype="float32"):
    return relax.const(np.ones(shape, dtype))


WEIGHT = constant(CHANNELS, CHANNELS, 3, 3)


def module(body, size=SIZE):
    """`main` of one float map x whose last value is body(emit, x)."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, CHANNELS, size, size), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            output = builder.emit_output(body(builder.emit, x))
        builder.emit_func_output(output)
    return builder.get()


def stored(body):
    """Bytes of the tensors that must exist, without constants and the input, in order of size."""
    tensors = dict(work_of(module(body)).tensors)
    tensors.pop("constants", None)
    assert tensors.pop("x") == MAP
    return sorted(tensors.values())


def conv(emit, x):
    return emit(relax.op.nn.conv2d(x, WEIGHT, padding=(1, 1)))


def bits(emit, x):
    return emit(relax.op.greater_equal(emit(relax.op.subtract(x, constant(CHANNELS, 1, 1))), relax.const(0.0)))


def bconv(emit, x):
    geometry = ops.BConv2DAttrs(padding=(1, 1, 1, 1))
    integer = emit(ops.bconv2d(bits(emit, x), constant(CHANNELS, CHANNELS, 3, 3, dtype="bool"), geometry))
    return emit(ops.affine(integer, constant(1, CHANNELS, 1, 1), constant(1, CHANNELS, 1, 1)))


def test_elementwise_operators_around_a_convolution_store_nothing():
    def body(emit, x):
        before = emit(relax.op.nn.relu(emit(relax.op.exp(x))))
        return emit(relax.op.nn.relu(conv(emit, before)))

    assert stored(body) == [MAP]  # the output


def test_between_binary_convolutions_are_bits():
    assert stored(lambda emit, x: bconv(emit, bconv(emit, x))) == [BITS, MAP]


def test_a_residual_is_stored_and_its_bits_are_not():
    def body(emit, x):
        first = bconv(emit, x)
        return emit(relax.op.add(bconv(emit, first), first))

    # bits of `first` are stored before it turns out that `first` itself has to be
    assert stored(body) == [BITS, MAP, MAP]


def test_an_activation_on_the_way_to_the_sum_does_not_hide_the_residual():
    def body(emit, x):
        first = conv(emit, x)
        return emit(relax.op.add(conv(emit, first), emit(relax.op.exp(first))))

    assert stored(body) == [MAP, MAP]


def test_two_independent_branches_hold_nothing():
    def body(emit, x):
        left, right = emit(relax.op.exp(x)), emit(relax.op.sin(x))
        return emit(relax.op.add(left, right))

    assert stored(body) == [MAP]


def test_a_map_weighed_by_its_own_mean_is_stored():
    def body(emit, x):
        first = emit(relax.op.nn.relu(conv(emit, x)))
        mean = emit(relax.op.mean(first, axis=[2, 3], keepdims=True))
        return emit(relax.op.multiply(first, mean))

    assert stored(body) == [MAP, MAP]


def test_a_maximum_over_channels_needs_no_stored_map():
    def body(emit, x):
        first = conv(emit, x)
        return emit(relax.op.argmax(emit(relax.op.exp(first)), axis=1))

    assert stored(body) == [SIZE * SIZE * 8]


def test_a_map_is_stored_before_its_upsampling():
    def body(emit, x):
        size = (2 * SIZE, 2 * SIZE)
        large = emit(relax.op.image.resize2d(conv(emit, x), size, method="nearest_neighbor", layout="NCHW"))
        return emit(relax.op.argmax(conv(emit, large), axis=1))

    assert stored(body) == [4 * SIZE * SIZE * 8, MAP]


def test_multiply_accumulates_by_kind_with_padded_taps():
    def body(emit, x):
        pooled = emit(relax.op.mean(bconv(emit, conv(emit, x)), axis=[2, 3]))
        return emit(relax.op.matmul(pooled, constant(CHANNELS, 10)))

    work = work_of(module(body))
    taps = CHANNELS * CHANNELS * 9
    assert work.binary_macs == SIZE * SIZE * taps
    assert work.float_macs == SIZE * SIZE * taps + CHANNELS * 10
    weights = taps * 4 + taps / 8 + CHANNELS * 10 * 4
    thresholds_and_scales = (3 * CHANNELS + 1) * 4
    assert work.tensors["constants"] == weights + thresholds_and_scales


def test_products_of_activations_count_and_store_what_all_rows_read():
    tokens = SIZE * SIZE

    def body(emit, x):
        queries = bits(emit, x)
        keys = emit(relax.op.reshape(queries, (1, CHANNELS, 1, tokens)))
        scores = emit(ops.bmatmul(queries, keys))
        values = emit(relax.op.reshape(x, (1, CHANNELS, 1, tokens)))
        return emit(ops.weighted_mean(scores, values, constant(CHANNELS + 1)))

    work = work_of(module(body))
    assert work.binary_macs == work.float_macs == tokens**2 * CHANNELS
    assert max(size for name, size in work.tensors.items() if name != "x") == MAP, "scores need not exist"


@pytest.mark.parametrize("kind", ["int8_macs", "bfloat16_macs"])
def test_rounded_layers_count_apart(kind):
    def body(emit, x):
        if kind == "int8_macs":
            data, weight = emit(ops.quantize(x, 2.0)), constant(CHANNELS, CHANNELS, 3, 3, dtype="int8")
            return emit(relax.op.nn.conv2d(data, weight, padding=(1, 1), out_dtype="int32"))
        return conv(emit, emit(ops.bfloat16(x)))

    work = work_of(module(body))
    assert getattr(work, kind) == SIZE * SIZE * CHANNELS * CHANNELS * 9 and work.float_macs == 0


def test_transposed_convolution_counts_each_input_element_with_each_of_its_taps():
    def body(emit, x):
        return emit(relax.op.nn.conv2d_transpose(x, constant(CHANNELS, 16, 4, 4), strides=(2, 2), padding=(1, 1)))

    assert work_of(module(body)).float_macs == CHANNELS * SIZE * SIZE * 16 * 16


def test_a_long_chain_of_activations_is_walked_once():
    def body(emit, x):
        for _ in range(40):  # each activation reads its input three times: 3^40 paths
            positive = emit(relax.op.greater(x, relax.const(0.0)))
            x = emit(relax.op.where(positive, x, emit(relax.op.multiply(x, constant(CHANNELS, 1, 1)))))
        return emit(relax.op.add(x, conv(emit, x)))

    assert MAP in stored(body)


def test_the_limit_is_a_sum():
    limits = Limits(1, 1e3, 1e2, None, {MB: 1e6, 2 * MB: 5e5})
    work = Work(binary_macs=2000, float_macs=300, tensors={"a": MB, "b": 2 * MB})
    assert work.seconds(limits) == pytest.approx(2 + 3 + MB / 1e6 + 2 * MB / 5e5)


def test_rounded_layers_have_the_best_ceiling_of_the_machine():
    work = Work(int8_macs=3200, bfloat16_macs=800)
    for int8, tiles, seconds in [(None, None, 32 + 8), (4e2, None, 8 + 8), (4e2, 1.6e3, 2 + 1)]:
        limits = Limits(1, 1e3, 1e2, int8, {MB: 1e6}, tiles)
        assert work.seconds(limits) == pytest.approx(seconds)
