"""Pooling: sums over a window, taps in (ky, kx) order, and maxima; no padded copy of the input."""

from collections.abc import Callable

import numpy as np
from tvm import relax, te, tirx

from tvm_bnn.lower.anchors import Anchor
from tvm_bnn.lower.layout import WORD, padded_channels, words
from tvm_bnn.lower.reader import Reader
from tvm_bnn.lower.words import has_words, word
from tvm_bnn.relay_passes.rewriter import dtype_of, shape_of


def _inside(position, before: int, extent: int, reach: int):
    tests = []
    if before:
        tests.append(position >= 0)
    if reach > before + extent:
        tests.append(position < extent)
    return tests


def _window(reader: Reader, call: relax.Call, reduce, identity, dtype: str):
    data = call.args[0]
    stored = padded_channels(shape_of(data)[1])
    return _window_of(
        reader, call, reduce, identity, stored, lambda n, y, x, c: reader.element(data, (n, c, y, x)).astype(dtype)
    )


def _window_of(
    reader: Reader,
    call: relax.Call,
    reduce,
    identity,
    stored: int,
    read: Callable,
    axes: tuple[int, ...] = (0, 1),
    name: str = "acc",
    size: list[int] | None = None,
):
    """Stage [N, H, W, stored]: the window's values of read(n, y, x, c), reduced.

    axes : 0 for rows, 1 for columns. size : rows and columns of the stage, by default those of the result.
    """
    attrs = call.attrs
    extents = shape_of(call.args[0])[2:]
    out = size or list(shape_of(call)[2:])
    kernel, strides, dilation = ([int(v) for v in v_] for v_ in (attrs.pool_size, attrs.strides, attrs.dilation))
    before = int(attrs.padding[0]), int(attrs.padding[1])
    taps = {axis: reader.reduce_axis(kernel[axis], ("ky", "kx")[axis]) for axis in axes}

    def accumulate(n, y, x, c):
        position, tests = [y, x], []
        for axis, tap in taps.items():
            reach = (out[axis] - 1) * strides[axis] + (kernel[axis] - 1) * dilation[axis] + 1
            position[axis] = position[axis] * strides[axis] + tap.var * dilation[axis] - before[axis]
            tests += _inside(position[axis], before[axis], extents[axis], reach)
        value = read(n, *position, c)
        held = tirx.if_then_else(tirx.all(*tests), value, identity) if tests else value
        return reduce(held, axis=list(taps.values()))

    return reader.compute((shape_of(call)[0], *out, stored), accumulate, name)


def max_pool2d(reader: Reader, call: relax.Call, target) -> Anchor:
    """Maximum over the window; of bits, whether any is set."""
    if dtype_of(call) == "bool" and has_words(reader, call.args[0]):
        return _any_bit(reader, call)
    if dtype_of(call) == "bool":
        acc = _window(reader, call, te.max, tirx.const(0, "int32"), "int32")
        return Anchor(lambda i: acc(i[0], i[2], i[3], i[1]) > tirx.const(0, "int32"), "reduce")
    dtype = dtype_of(call)
    least = te.min_value(dtype)
    if call.args[0] in reader.stages:
        acc = _rows_first(reader, call, least)
    else:
        acc = _window(reader, call, te.max, least, dtype)
    return Anchor(lambda i: acc(i[0], i[2], i[3], i[1]), "reduce")


def pooled_rows(call: relax.Call) -> tuple[int, int]:
    """How many rows above its input the windows of a pooling begin, and how many they reach over."""
    attrs = call.attrs
    reach = (int(attrs.pool_size[0]) - 1) * int(attrs.dilation[0])
    return int(attrs.padding[0]), (shape_of(call)[2] - 1) * int(attrs.strides[0]) + reach + 1


def _rows_first(reader: Reader, call: relax.Call, least):
    """Maxima over windows of a map that is made in the same kernel: along each row, stage ``rows``, then over rows.

    What is kept of a row until its neighbours are made is then narrower, by the stride. Rows of padding are made and
    left out here, so that the loops that make them need no conditions.
    """
    data, attrs = call.args[0], call.attrs
    (batch, channels, height, _), out = shape_of(data), shape_of(call)[2:]
    (above, reached), stride, dilation = pooled_rows(call), int(attrs.strides[0]), int(attrs.dilation[0])

    def read(n, y, x, c):
        tests = _inside(y - above, above, height, reached)
        value = reader.element(data, (n, c, y - above, x))
        return tirx.if_then_else(tirx.all(*tests), value, least) if tests else value

    stored = padded_channels(channels)
    rows = _window_of(reader, call, te.max, least, stored, read, (1,), "rows", [reached, out[1]])
    ky = reader.reduce_axis(int(attrs.pool_size[0]), "ky")

    def accumulate(n, y, x, c):
        return te.max(rows(n, y * stride + ky.var * dilation, x, c), axis=[ky])

    return reader.compute((batch, *out, stored), accumulate, "acc")


def _any_bit(reader: Reader, call: relax.Call) -> Anchor:
    """The words of a window, combined by or."""
    data, channels = call.args[0], shape_of(call)[1]
    either = te.comm_reducer(lambda a, b: a | b, lambda dtype: tirx.const(0, dtype), name="either")
    acc = _window_of(
        reader,
        call,
        either,
        tirx.const(0, "uint32"),
        words(channels),
        lambda n, y, x, w: word(reader, data, (n, y, x), w),
    )

    def bit(index):
        n, c, y, x = index
        held = acc(n, y, x, tirx.floordiv(c, WORD)) >> tirx.floormod(c, WORD).astype("uint32")
        return tirx.NE(held & tirx.const(1, "uint32"), tirx.const(0, "uint32"))

    return Anchor(bit, "reduce", lambda pixel, position: acc(*pixel, position))


def avg_pool2d(reader: Reader, call: relax.Call, target) -> Anchor:
    """Sum over the window divided by the count that the attributes ask for."""
    attrs, dtype = call.attrs, dtype_of(call)
    acc = _window(reader, call, te.sum, tirx.const(0.0, dtype), dtype)
    height, width = shape_of(call.args[0])[2:]
    kernel, strides = [int(v) for v in attrs.pool_size], [int(v) for v in attrs.strides]
    padding = [int(v) for v in attrs.padding]
    include_pad = bool(attrs.count_include_pad)
    counts = [
        _counts(extent, kernel[a], strides[a], (padding[a], padding[a + 2]), shape_of(call)[2 + a], include_pad)
        for a, extent in enumerate((height, width))
    ]
    whole = float(kernel[0] * kernel[1])
    if all(np.all(c == k) for c, k in zip(counts, kernel, strict=True)):
        return Anchor(lambda i: acc(i[0], i[2], i[3], i[1]) / tirx.const(whole, dtype), "reduce")
    rows, columns = (
        reader.array(count.astype(np.float32), name)
        for count, name in zip(counts, ("row_count", "column_count"), strict=True)
    )
    return Anchor(lambda i: acc(i[0], i[2], i[3], i[1]) / (rows(i[2]) * columns(i[3])), "reduce")


def _counts(
    extent: int, kernel: int, stride: int, padding: tuple[int, int], outputs: int, include_pad: bool
) -> np.ndarray:
    """Elements that each window divides by, along one axis."""
    before, after = padding
    start = np.arange(outputs) * stride - before
    end = np.minimum(start + kernel, extent + after)
    if include_pad:
        return end - start
    return np.minimum(end, extent) - np.maximum(start, 0)


def adaptive_avg_pool2d(reader: Reader, call: relax.Call, target) -> Anchor:
    """Mean over equal windows, or over the whole plane."""
    from tvm_bnn.errors import UnsupportedError
    from tvm_bnn.lower.anchors.reduction import plane_sum
    from tvm_bnn.relay_passes.rewriter import path_of

    height, width = shape_of(call.args[0])[2:]
    rows, columns = shape_of(call)[2:]
    if (rows, columns) == (1, 1):
        total = plane_sum(reader, call.args[0])
        count = tirx.const(float(height * width), "float32")
        return Anchor(lambda i: total(i[0], i[1]) / count, "plane_sum")
    if height % rows or width % columns:
        raise UnsupportedError(
            f"{path_of(call) or 'the model'}: adaptive pooling from {height}x{width} to {rows}x{columns}; "
            "sizes that divide the input are accepted"
        )
    window = height // rows, width // columns
    ky, kx = reader.reduce_axis(window[0], "ky"), reader.reduce_axis(window[1], "kx")
    batch, channels = shape_of(call)[0], padded_channels(shape_of(call)[1])

    def along_row(n, y, x, c):
        return te.sum(reader.element(call.args[0], (n, c, y, x * window[1] + kx.var)), axis=kx)

    sums = reader.compute((batch, height, columns, channels), along_row, "rows")
    acc = reader.compute(
        (batch, rows, columns, channels),
        lambda n, y, x, c: te.sum(sums(n, y * window[0] + ky.var, x, c), axis=ky),
        "acc",
    )
    count = tirx.const(float(window[0] * window[1]), "float32")
    return Anchor(lambda i: acc(i[0], i[2], i[3], i[1]) / count, "reduce")
