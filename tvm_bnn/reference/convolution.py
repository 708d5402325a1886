"""Convolution, transposed convolution and matrix product in the defined order.

Convolution: acc = 0, then for (ky, kx, c) in that order acc = fma(x, w, acc). A padded tap is a step with
x = 0, which changes nothing unless the weight is infinite or NaN.

Transposed convolution, as a gather: output row y receives input row i through weight row ky where
i * stride = y + padding - ky * dilation; for (ky, kx, c) in that order, ky and kx counted in the weight as
it is stored; taps without an input row and column take no step. Rows y of one remainder y mod stride use
the same ky, and neighbours among them use neighbouring input rows: each remainder is a plain convolution.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np
from tvm import relax

from tvm_bnn.arithmetic import never_inexact_tiny
from tvm_bnn.errors import UnsupportedError
from tvm_bnn.ops import BConv2DAttrs
from tvm_bnn.reference.attributes import ints
from tvm_bnn.reference.fused_sum import BLOCK, FusedSum


class Tap(NamedTuple):
    """One position of a kernel: where it reads for output (0, 0), and its place in the weight."""

    row: int
    column: int
    ky: int
    kx: int


def relayout(data: np.ndarray, layout: str, wanted: str) -> np.ndarray:
    """Transpose between layouts that are permutations of the same letters."""
    if layout == wanted:
        return data
    if sorted(layout) != sorted(wanted):
        raise UnsupportedError(
            f"the reference evaluator found a tensor in layout {layout}; it takes permutations of {wanted}"
        )
    return data.transpose([layout.index(letter) for letter in wanted])


def conv2d(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """relax.nn.conv2d of float32, or of int8 into exact int32 sums; any permutation of NCHW and OIHW."""
    attrs = call.attrs
    data, weight = relayout(args[0], attrs.data_layout, "NCHW"), relayout(args[1], attrs.kernel_layout, "OIHW")
    if data.dtype == weight.dtype == np.int8 and attrs.out_dtype == "int32":
        geometry = BConv2DAttrs.from_conv2d(attrs)
        # sums of products of bytes are far below 2**53
        padded = pad_rows_columns(data, geometry.padding).astype(np.float64)
        out = exact_sums(padded, weight.astype(np.float64), geometry)
    else:
        out = _conv2d(
            data, weight, ints(attrs.strides), ints(attrs.padding), ints(attrs.dilation), int(attrs.groups)
        )
    return relayout(out, "NCHW", attrs.out_layout or attrs.data_layout)


def exact_sums(data: np.ndarray, weight: np.ndarray, attrs: BConv2DAttrs) -> np.ndarray:
    """int32 sums of products of whole numbers, held in floats that are exact for every partial sum.

    data : [N, G * C, H, W], padded already; weight : [O, C, KH, KW]. Matrix products may add in any order.
    """
    filters, channels, *kernel = weight.shape
    grouped = data.reshape(data.shape[0], attrs.groups, channels, *data.shape[2:])
    by_group = weight.reshape(attrs.groups, filters // attrs.groups, channels, *kernel)
    height, width = data.shape[2:]
    rows, columns = replace(attrs, padding=(0, 0, 0, 0)).output_size(height, width, (kernel[0], kernel[1]))
    out = np.zeros((data.shape[0], attrs.groups, filters // attrs.groups, rows * columns), data.dtype)
    for ky, kx in np.ndindex(*kernel):
        y, x = ky * attrs.dilation[0], kx * attrs.dilation[1]
        window = grouped[
            ...,
            y : y + (rows - 1) * attrs.strides[0] + 1 : attrs.strides[0],
            x : x + (columns - 1) * attrs.strides[1] + 1 : attrs.strides[1],
        ]
        out += by_group[..., ky, kx] @ window.reshape(*window.shape[:3], -1)
    return out.astype(np.int32).reshape(data.shape[0], filters, rows, columns)


def conv1d(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """relax.nn.conv1d: a convolution of height 1."""
    attrs = call.attrs
    data, weight = relayout(args[0], attrs.data_layout, "NCW"), relayout(args[1], attrs.kernel_layout, "OIW")
    left, right = ints(attrs.padding)
    out = _conv2d(
        data[:, :, None],
        weight[:, :, None],
        (1, *ints(attrs.strides)),
        (0, left, 0, right),
        (1, *ints(attrs.dilation)),
        int(attrs.groups),
    )[:, :, 0]
    return relayout(out, "NCW", attrs.out_layout or attrs.data_layout)


def _conv2d(data, weight, strides, padding, dilation, groups) -> np.ndarray:
    require_float32("a convolution", data, weight)
    filters, _, *kernel = weight.shape
    padded = pad_rows_columns(data, padding)
    size = [
        (extent - d * (k - 1) - 1) // s + 1 for extent, k, s, d in zip(padded.shape[2:], kernel, strides, dilation)
    ]
    taps = [Tap(ky * dilation[0], kx * dilation[1], ky, kx) for ky, kx in np.ndindex(*kernel)]
    by_tap = weight.reshape(groups, filters // groups, -1, *kernel)
    return _sum_taps(padded, by_tap, taps, strides, (size[0], size[1]))


def conv2d_transpose(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """relax.nn.conv2d_transpose of float32, any permutation of NCHW and IOHW."""
    attrs = call.attrs
    data, weight = relayout(args[0], attrs.data_layout, "NCHW"), relayout(args[1], attrs.kernel_layout, "IOHW")
    require_float32("a transposed convolution", data, weight)
    strides, dilation, groups = ints(attrs.strides), ints(attrs.dilation), int(attrs.groups)
    top, left, bottom, right = ints(attrs.padding)
    channels, per_group, *kernel = weight.shape
    rows, columns = (
        (extent - 1) * s + d * (k - 1) + 1 - before - after + extra
        for extent, s, d, k, before, after, extra in zip(
            data.shape[2:], strides, dilation, kernel, (top, left), (bottom, right), ints(attrs.output_padding)
        )
    )
    by_tap = weight.reshape(groups, channels // groups, per_group, *kernel).swapaxes(1, 2)
    out = np.zeros((data.shape[0], groups * per_group, rows, columns), np.float32)
    for y, x in np.ndindex(min(strides[0], rows), min(strides[1], columns)):
        part = out[:, :, y :: strides[0], x :: strides[1]]
        row_taps = _phase(y + top, kernel[0], strides[0], dilation[0])
        column_taps = _phase(x + left, kernel[1], strides[1], dilation[1])
        part[...] = _sum_phase(data, by_tap, row_taps, column_taps, (part.shape[2], part.shape[3]))
    return relayout(out, "NCHW", attrs.out_layout or attrs.data_layout)


def _phase(start: int, kernel: int, stride: int, dilation: int) -> list[tuple[int, int]]:
    """(k, input position) of the taps that reach output position ``start - padding``."""
    return [(k, (start - k * dilation) // stride) for k in range(kernel) if (start - k * dilation) % stride == 0]


def _sum_phase(data, by_tap, row_taps, column_taps, size: tuple[int, int]) -> np.ndarray:
    """A stride-1 convolution with the given taps; positions outside the input read 0."""
    if not row_taps or not column_taps:
        return np.zeros((data.shape[0], by_tap.shape[0] * by_tap.shape[1], *size), np.float32)
    borders, offsets = [], []
    for reached, extent, count in zip((row_taps, column_taps), data.shape[2:], size):
        positions = [position for _, position in reached]
        before = max(0, -min(positions))
        borders.append((before, max(0, max(positions) + count - extent)))
        offsets.append(before)
    padded = pad_rows_columns(data, (borders[0][0], borders[1][0], borders[0][1], borders[1][1]))
    taps = [Tap(i + offsets[0], j + offsets[1], ky, kx) for (ky, i), (kx, j) in product(row_taps, column_taps)]
    return _sum_taps(padded, by_tap, taps, (1, 1), size)


def _sum_taps(data, weight, taps: list[Tap], strides: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """out[n, g, o, y, x] = sum over the taps, then over c, in order.

    data : float32[N, G * C, H, W], padded; weight : float32[G, O, C, KH, KW].
    """
    groups, per_group, channels = weight.shape[:3]
    rows, columns = size
    out = np.empty((data.shape[0], groups, per_group, rows, columns), np.float32)
    tiny = not never_inexact_tiny(data, weight)
    wide = data.reshape(data.shape[0], groups, channels, *data.shape[2:])
    for n, group_part, filter_part, row_part in product(
        range(data.shape[0]), *_blocks(groups, per_group, rows, columns)
    ):
        target = out[n, group_part, filter_part, row_part]
        block = FusedSum((*target.shape[:2], target.shape[2] * columns), tiny)
        taken = weight[group_part, filter_part].astype(np.float64)
        for tap in taps:
            first = tap.row + row_part.start * strides[0]
            last = first + (target.shape[2] - 1) * strides[0] + 1
            window = wide[
                n, group_part, :, first : last : strides[0], tap.column : tap.column + columns * strides[1] : strides[1]
            ]
            pixels = window[..., :columns].astype(np.float64).reshape(*window.shape[:2], 1, -1)
            for c in range(channels):
                block.add(pixels[:, c], taken[:, :, c, tap.ky, tap.kx, None])
        target[...] = block.result().reshape(target.shape)
    return out.reshape(data.shape[0], groups * per_group, rows, columns)


def _blocks(groups: int, filters: int, rows: int, columns: int) -> tuple[list[slice], list[slice], list[slice]]:
    """Cut (groups, filters, rows) so that a block of all columns holds about BLOCK sums; rows last to be cut."""
    row_step = max(1, min(rows, BLOCK // columns))
    filter_step = max(1, min(filters, BLOCK // (columns * row_step)))
    group_step = max(1, min(groups, BLOCK // (columns * row_step * filter_step)))
    return cut(groups, group_step), cut(filters, filter_step), cut(rows, row_step)


def cut(extent: int, step: int) -> list[slice]:
    """Consecutive slices of at most ``step`` that cover range(extent)."""
    return [slice(start, min(start + step, extent)) for start in range(0, extent, step)]


def pad_rows_columns(data: np.ndarray, padding: Sequence[int], value: float = 0) -> np.ndarray:
    """Pad the last two axes by (top, left, bottom, right); a negative number takes rows or columns away."""
    if not any(padding):
        return data
    height, width = data.shape[-2:]
    top, left, bottom, right = padding
    data = data[..., max(-top, 0) : height + min(bottom, 0), max(-left, 0) : width + min(right, 0)]
    top, left, bottom, right = (max(side, 0) for side in padding)
    borders = [(0, 0)] * (data.ndim - 2) + [(top, bottom), (left, right)]
    return np.pad(data, borders, constant_values=value)


def require_float32(what: str, *operands: np.ndarray) -> None:
    """Refuse the dtypes for which no order of rounding is defined."""
    found = [str(operand.dtype) for operand in operands]
    if set(found) != {"float32"}:
        raise UnsupportedError(
            f"the reference evaluator found {what} of {' and '.join(found)}; it takes float32: convert the model with "
            ".float()"
        )


def matmul(_call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """relax.matmul with numpy's broadcasting: for k in order acc = fma(a, b, acc). Integers are exact."""
    return matrix_product(*args)


def matrix_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b for arrays, added up in order."""
    if a.dtype.kind in "iu":
        return np.matmul(a, b)
    require_float32("a matrix product", a, b)
    left, right = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left, right = (np.broadcast_to(v, batch + v.shape[-2:]) for v in (left, right))
    out = np.empty((*batch, left.shape[-2], right.shape[-1]), np.float32)
    tiny = not never_inexact_tiny(a, b)
    for index in np.ndindex(*batch):
        _matrix_product(left[index], right[index], out[index], tiny)
    if a.ndim == 1:
        out = out[..., 0, :]
    return out[..., 0] if b.ndim == 1 else out


def _matrix_product(a: np.ndarray, b: np.ndarray, out: np.ndarray, tiny: bool) -> None:
    """out = a @ b for matrices; columns of a and rows of b are made contiguous first."""
    by_k, rows = np.ascontiguousarray(a.T, np.float64), np.ascontiguousarray(b, np.float64)
    column_step = min(out.shape[1], BLOCK) or 1
    for row_part, column_part in product(
        cut(out.shape[0], max(1, BLOCK // column_step)), cut(out.shape[1], column_step)
    ):
        target = out[row_part, column_part]
        block = FusedSum(target.shape, tiny)
        for k in range(a.shape[1]):
            block.add(by_k[k, row_part, None], rows[k, column_part])
        target[...] = block.result()
