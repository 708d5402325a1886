"""Bilinear resize: vertical interpolation, then horizontal, each one fused multiply-add."""

from collections.abc import Callable

import numpy as np
from tvm import relax, tirx

from tvm_bnn import arithmetic
from tvm_bnn.errors import UnsupportedError
from tvm_bnn.lower.anchors import Anchor
from tvm_bnn.lower.index import Index, Scalar
from tvm_bnn.lower.layout import padded_channels
from tvm_bnn.lower.reader import Reader
from tvm_bnn.relay_passes.rewriter import path_of, shape_of


def linear_coordinates(source: int, result: int, align_corners: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Upper neighbour, lower neighbour (int32) and weight of the lower one (float32) of each output position.

    PyTorch's rule in float32: ``(i + 0.5) * in/out - 0.5`` cut at 0, or ``i * (in - 1)/(out - 1)``.
    """
    i = np.arange(result, dtype=np.float32)
    if align_corners:
        scale = np.float32(source - 1) / np.float32(result - 1) if result > 1 else np.float32(0)
        position = i * scale
    else:
        scale = np.float32(source) / np.float32(result)
        position = np.maximum((i + np.float32(0.5)) * scale - np.float32(0.5), np.float32(0))
    first = np.minimum(position.astype(np.int32), source - 1)
    second = np.minimum(first + 1, source - 1)
    return first, second, (position - first.astype(np.float32)).astype(np.float32)


def _position(reader: Reader, table: np.ndarray, name: str, source: int, result: int, align_corners: bool):
    """Neighbour of each output position, as arithmetic where that equals the table.

    Arithmetic shows a schedule which part of a row is read; a look-up hides it. The exact rational rule can differ
    from the float32 table by rounding, and then the table is what counts.
    """
    if align_corners:
        scale, shift, divisor = source - 1, 0, max(result - 1, 1)
    else:
        scale, shift, divisor = 2 * source, source - result, 2 * result
    step = 1 if name.endswith("1") else 0
    i = np.arange(result, dtype=np.int64)
    exact = np.clip(np.maximum((i * scale + shift) // divisor, 0) + step, 0, source - 1)
    if not np.array_equal(exact, table):
        return reader.array(table, name)

    def position(x):
        first = tirx.max(tirx.floordiv(x * scale + shift, divisor), 0)
        return tirx.min(first + step, source - 1)

    return position


def interpolation(reader: Reader, call: relax.Call, stage: str | None) -> Callable[[Index], Scalar]:
    """Logical index -> element of a bilinear resize of [N, C, H, W].

    stage : what a stage is called that stores rows, interpolated vertically; None: each element computes its own.
    """
    attrs = call.attrs
    if str(attrs.method) != "linear":
        where = path_of(call) or "the model"
        raise UnsupportedError(f"{where}: {attrs.method} resize; nearest and linear are accepted")
    data = call.args[0]
    batch, channels, height, width = shape_of(data)
    rows, columns = shape_of(call)[2:]
    align = str(attrs.coordinate_transformation_mode) == "align_corners"
    above, below, share = linear_coordinates(height, rows, align)
    upper, lower, fy = (reader.array(t, n) for t, n in ((above, "y0"), (below, "y1"), (share, "fy")))
    first, second, weight = linear_coordinates(width, columns, align)
    fx = reader.array(weight, "fx")
    left, right = (_position(reader, t, n, width, columns, align) for t, n in ((first, "x0"), (second, "x1")))

    def vertical(n, y, x, c):
        above, below = (reader.element(data, (n, c, row(y), x)) for row in (upper, lower))
        return arithmetic.fma(fy(y), below - above, above)

    column = reader.compute((batch, rows, width, padded_channels(channels)), vertical, stage) if stage else vertical

    def element(i):
        n, c, y, x = i
        before, after = column(n, y, left(x), c), column(n, y, right(x), c)
        return arithmetic.fma(fx(x), after - before, before)

    return element


def resize2d(reader: Reader, call: relax.Call, target) -> Anchor:
    """Bilinear interpolation of [N, C, H, W]."""
    return Anchor(interpolation(reader, call, "vertical"), "resize")
