"""Pooling. Averages add the taps of a window in the order (ky, kx) and divide once by their number.

The number is PyTorch's: the taps inside the image, or inside the padded image where ``count_include_pad``
is set; what ``ceil_mode`` adds beyond the padding never counts. Adaptive pooling and spatial means add each
row of the window from left to right, then the rows from top to bottom, then divide.
"""

from collections.abc import Sequence

import numpy as np
from tvm import relax

from tvm_bnn.reference.attributes import ints, result_shape
from tvm_bnn.reference.convolution import pad_rows_columns, relayout
from tvm_bnn.reference.elementwise import maximum
from tvm_bnn.reference.reduction import ordered_sum


class _Windows:
    """The strided views of a padded NCHW tensor, one for each tap of the pooling window."""

    def __init__(self, call: relax.Call):
        attrs = call.attrs
        self.layout, self.out_layout = attrs.layout, attrs.out_layout or attrs.layout
        self.pool, self.strides, self.dilation = ints(attrs.pool_size), ints(attrs.strides), ints(attrs.dilation)
        self.padding = ints(attrs.padding)
        shape = dict(zip(self.out_layout, result_shape(call)))
        self.size = (shape["H"], shape["W"])

    def pad(self, data: np.ndarray, value: float) -> np.ndarray:
        """Pad as asked, and by what ceil_mode reads beyond that."""
        top, left, bottom, right = self.padding
        beyond = []
        for axis, (before, after) in enumerate([(top, bottom), (left, right)]):
            reach = (self.size[axis] - 1) * self.strides[axis] + self.dilation[axis] * (self.pool[axis] - 1) + 1
            beyond.append(max(after, reach - before - data.shape[2 + axis]))
        return pad_rows_columns(data, (top, left, *beyond), value)

    def taps(self, padded: np.ndarray):
        """The value that each output reads through tap (ky, kx), in order."""
        for ky, kx in np.ndindex(*self.pool):
            y, x = ky * self.dilation[0], kx * self.dilation[1]
            yield padded[
                :,
                :,
                y : y + (self.size[0] - 1) * self.strides[0] + 1 : self.strides[0],
                x : x + (self.size[1] - 1) * self.strides[1] + 1 : self.strides[1],
            ]


def max_pool2d(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """relax.nn.max_pool2d; padding is -inf (the lowest integer, False). The earlier of equal taps stays."""
    windows = _Windows(call)
    data = relayout(args[0], windows.layout, "NCHW")
    lowest = {"f": -np.inf, "b": False}.get(data.dtype.kind)
    if lowest is None:
        lowest = np.iinfo(data.dtype).min
    taps = windows.taps(windows.pad(data, lowest))
    best = next(taps).copy()
    for tap in taps:
        best = maximum(tap, best)
    return relayout(best, "NCHW", windows.out_layout)


def avg_pool2d(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """relax.nn.avg_pool2d of float32."""
    windows = _Windows(call)
    data = relayout(args[0], windows.layout, "NCHW")
    total = np.zeros((*data.shape[:2], *windows.size), data.dtype)
    for tap in windows.taps(windows.pad(data, 0)):
        total += tap
    counts = _counts(windows, data.shape[2:], bool(call.attrs.count_include_pad))
    return relayout(total / counts, "NCHW", windows.out_layout)


def _counts(windows: _Windows, extents: Sequence[int], include_padding: bool) -> np.ndarray:
    """float32[H', W']: how many taps of each window count."""
    per_axis = []
    for axis, extent in enumerate(extents):
        before, after = windows.padding[axis], windows.padding[2 + axis]
        first, last = (-before, extent + after) if include_padding else (0, extent)
        starts = np.arange(windows.size[axis]) * windows.strides[axis] - before
        positions = starts[:, None] + np.arange(windows.pool[axis]) * windows.dilation[axis]
        per_axis.append(((positions >= first) & (positions < last)).sum(axis=1))
    return np.multiply.outer(*per_axis).astype(np.float32)


def adaptive_avg_pool2d(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """relax.nn.adaptive_avg_pool2d: window i of n covers floor(i * size / n) up to ceil((i + 1) * size / n)."""
    layout = call.attrs.layout
    data = relayout(args[0], layout, "NCHW")
    windows = result_shape(call)
    rows, columns = (
        [(i * extent // n, -(-(i + 1) * extent // n)) for i in range(n)]
        for extent, n in zip(data.shape[2:], (windows[layout.index("H")], windows[layout.index("W")]))
    )
    out = np.empty((*data.shape[:2], len(rows), len(columns)), data.dtype)
    for y, (top, bottom) in enumerate(rows):
        for x, (left, right) in enumerate(columns):
            total = ordered_sum(data[:, :, top:bottom, left:right], (2, 3))[..., 0, 0]
            out[:, :, y, x] = total / data.dtype.type((bottom - top) * (right - left))
    return relayout(out, "NCHW", call.attrs.out_layout or layout)
