"""Matrix products: linear layers and products of two activations; the sum runs over k in order."""

import operator

import numpy as np
from tvm import relax, te, tirx

from tvm_bnn.lower import tensor_core
from tvm_bnn.lower.anchors import Anchor
from tvm_bnn.lower.anchors.convolution import bit_sums, constant_weights, window_sums
from tvm_bnn.lower.anchors.reduction import last_channels
from tvm_bnn.lower.bit_counts import half, unit, unit_lanes
from tvm_bnn.lower.index import broadcast_index
from tvm_bnn.lower.layout import WORD, padded_channels, round_up, words
from tvm_bnn.lower.reader import Reader
from tvm_bnn.lower.tally import Table, different_bits_tally
from tvm_bnn.lower.words import word
from tvm_bnn.reference.binary import KEYS
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.rewriter import dtype_of, shape_of


def matmul(reader: Reader, call: relax.Call, target) -> Anchor:
    """``[..., M, K] x [..., K, N]`` with numpy's broadcasting of the leading axes (no vectors)."""
    left, right = call.args
    left_shape, right_shape = shape_of(left), shape_of(right)
    if target.gpu is None and _is_linear(left, right):
        return _linear(reader, left, value_of(right), target)
    k = reader.reduce_axis(left_shape[-1], "k")

    def accumulate(*index):
        rows = () if len(left_shape) == 1 else (index[-2] if len(right_shape) > 1 else index[-1],)
        columns = () if len(right_shape) == 1 else (index[-1],)
        batch = index[: len(index) - len(rows) - len(columns)]
        left_index = (*broadcast_index(batch, left_shape[:-2]), *rows, k.var)
        right_index = (*broadcast_index(batch, right_shape[:-2]), k.var, *columns)
        return te.sum(reader.element(left, left_index) * reader.element(right, right_index), axis=k)

    acc = last_channels(reader, shape_of(call), accumulate, "acc")
    return Anchor(lambda i: acc(*i), "reduce")


def _is_linear(left: relax.Expr, right: relax.Expr) -> bool:
    """Whether a product is that of a matrix and constant weights, in float32."""
    matrices = len(shape_of(left)) == len(shape_of(right)) == 2
    return matrices and is_constant(right) and dtype_of(left) == dtype_of(right) == "float32"


def _linear(reader: Reader, left: relax.Expr, weight: np.ndarray, target) -> Anchor:
    """``[M, K] x [K, N]`` as a 1x1 convolution of a row of M pixels: blocked weights are read once, in their order.

    weight : [K, N], of which a row is far from the next.
    """
    (rows, length), columns = shape_of(left), weight.shape[1]
    filters = np.ascontiguousarray(weight.T).reshape(columns, 1, 1, length)
    acc = window_sums(
        reader,
        (1, columns, 1, rows),
        (1, 1, length),
        lambda n, y, x, ky, kx, group, k: reader.element(left, (x, k)),
        constant_weights(reader, filters, target.lanes32),
        operator.mul,
    )
    return Anchor(lambda index: acc(0, 0, index[0], reader.inside(index[1], padded_channels(columns))), "conv")


def bmatmul(reader: Reader, call: relax.Call, target) -> Anchor:
    """Product of two activations' bits: a 1x1 convolution whose weights are the other operand.

    Stage ``filters`` has the words of the other operand with its columns last, as vectors read them.
    """
    left, right = call.args
    batch, length, height, width = shape_of(left)
    columns = shape_of(right)[3]
    if tensor_core.takes_product(call, target):
        tally = tensor_core.tally_of_activations(
            reader,
            shape_of(call),
            lambda b, y, x, k: word(reader, left, (b, y, x), k),
            lambda b, n, k: word(reader, right, (b, tirx.const(0, "int32"), n), k),
            length,
            target.gpu.product,
        )
        return Anchor(lambda index: tally.sum(reader.table, index), "tensor_conv", tally=tally)
    lanes = min(unit_lanes(target, columns, width), padded_channels(columns))
    parts = WORD // unit(target, columns)

    def column_units(b, block, k, lane):
        pixel = (b, tirx.const(0, "int32"), tirx.min(block * lanes + lane, columns - 1))
        whole = word(reader, right, pixel, k // parts)
        return whole if parts == 1 else half(whole, whole, k % parts, 1)

    blocks = padded_channels(columns) // lanes
    filters = reader.compute((batch, blocks, words(length) * parts, lanes), column_units, "filters")
    acc = bit_sums(
        reader,
        (batch, columns, height, width),
        (1, 1, words(length)),
        lambda n, y, x, ky, kx, group, k: word(reader, left, (n, y, x), k),
        lambda n, o, ky, kx, k: filters(n, o // lanes, k, o % lanes),
        target,
    )

    tally = different_bits_tally(acc, Table.of_number(length), length)
    return Anchor(lambda index: tally.sum(reader.table, index), "conv", tally=tally)


def weighted_mean(reader: Reader, call: relax.Call, target) -> Anchor:
    """Mean of values, each weighted by what a table says of its score: ``sum(w * v) / sum(w)`` for every query.

    Stage ``filters`` has the values with their channels last, and a channel of ones behind them, whose sum is that of
    the weights. ``scores_row`` has how many bits differ, which is the place in the table; ``part`` sums of KEYS keys,
    ``acc`` the sum of these. Where the scores are made in the same kernel, their counts are read as they are.
    """
    scores, values, weights = call.args
    batch, keys, height, width = shape_of(scores)
    depth, length = shape_of(values)[1], shape_of(weights)[0] - 1
    padded = padded_channels(keys)
    columns = max(round_up(depth + 1, target.lanes32), padded_channels(depth))
    one, zero = (tirx.const(value, "float32") for value in (1.0, 0.0))

    def column(b, k, o):
        value = reader.element(values, (b, tirx.min(o, depth - 1), tirx.const(0, "int32"), tirx.min(k, keys - 1)))
        behind = tirx.if_then_else(tirx.EQ(o, depth), one, zero)
        return tirx.if_then_else(k < keys, tirx.if_then_else(o < depth, value, behind), zero)

    filters = reader.compute((batch, padded, columns), column, "filters")
    tally = reader.tallies.get(scores)
    dtype = "uint8" if length < 1 << 8 else "uint16" if length < 1 << 16 else "int32"

    def different(n, y, x, k):
        index = (n, reader.inside(k, padded), y, x)
        count = tally.count(index) if tally else tirx.shift_right(length - reader.element(scores, index), 1)
        return count.astype(dtype)

    counts = reader.compute((batch, height, width, padded), different, "scores_row")
    table = reader.array(value_of(weights), "table")
    size = min(KEYS, padded)
    key, part = reader.reduce_axis(size, "key"), reader.reduce_axis(padded // size, "part")

    def sum_of_part(n, y, p, x, o):
        place = p * size + key.var
        return te.sum(table(counts(n, y, x, place).astype("int32")) * filters(n, place, o), axis=key)

    parts = reader.compute((batch, height, padded // size, width, columns), sum_of_part, "part")
    acc = reader.compute(
        (batch, height, width, columns), lambda n, y, x, o: te.sum(parts(n, y, part.var, x, o), axis=part), "acc"
    )

    def mean(index):
        n, c, y, x = index
        return acc(n, y, x, reader.inside(c, columns)) / acc(n, y, x, depth)

    return Anchor(mean, "weighted_mean")
