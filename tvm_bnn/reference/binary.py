"""The operators that the passes add: exact integers, one affine step, one table."""

from collections.abc import Sequence

import numpy as np
from tvm import relax

from tvm_bnn.arithmetic import fma32
from tvm_bnn.ops import BConv2DAttrs
from tvm_bnn.reference.convolution import cut, exact_sums, matrix_product, pad_rows_columns


def bconv2d(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """bnn.bconv2d: int32 sums of s(x) * s(w), s(True) = +1; a padded tap gives pad_value * s(w).

    Every partial sum is an integer below 2**24 (the taps of a window are fewer), so a float32 matrix
    product is exact in whatever order it adds.
    """
    attrs = BConv2DAttrs.from_call(call.attrs)
    bits, weight_bits = args
    data = pad_rows_columns(np.where(bits, np.float32(1), np.float32(-1)), attrs.padding, attrs.pad_value)
    weight = np.where(weight_bits, np.float32(1), np.float32(-1))
    assert weight[0].size < 2**24
    return exact_sums(data, weight, attrs)


def bmatmul(_call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """bnn.bmatmul: int32 sums of s(x) * s(y) over axis 1 of both; exact in float32 like a convolution's."""
    left, right = (np.where(bits.reshape(*bits.shape[:2], -1), np.float32(1), np.float32(-1)) for bits in args)
    assert left.shape[1] < 2**24
    sums = (right.transpose(0, 2, 1) @ left).astype(np.int32)
    return sums.reshape(*sums.shape[:2], *args[0].shape[2:])


#: Keys whose weights are added up on their own, before these sums are.
KEYS = 32


def weighted_mean(_call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """bnn.weighted_mean: sums of weight * value over 32 keys in order, by fused multiply-add; these sums in order.

    The weights alone are added in the same order, and divide the result. Shorter sums have smaller errors.
    """
    scores, values, table = args
    batch, keys, *plane = scores.shape
    flat = scores.reshape(batch, keys, -1)
    weights = table[(len(table) - 1 - flat) // 2]
    ones = np.ones((batch, 1, 1, keys), np.float32)
    columns = np.concatenate([values, ones], 1)[:, :, 0]
    total = np.zeros((batch, columns.shape[1], flat.shape[2]), np.float32)
    for part in cut(keys, KEYS):
        total += matrix_product(columns[:, :, part], weights[:, part])
    return (total[:, :-1] / total[:, -1:]).reshape(batch, -1, *plane)


def interval(_call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """bnn.interval: (x - lowest) modulo 2**32 <= span."""
    data, lowest, width = args
    return (data.astype(np.int32) - lowest.astype(np.int32)).astype(np.uint32) <= width


def affine(_call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """bnn.affine: fma(float32(x), scale, shift)."""
    data, scale, shift = args
    return fma32(data.astype(np.float32), scale, shift)


def border_bias(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
    """bnn.border_bias: table[o, row_class[y], column_class[x]] with a leading axis of 1."""
    rows, columns = (np.array([int(v) for v in call.attrs[name]]) for name in ("row_class", "column_class"))
    return args[0][:, rows[:, None], columns[None, :]][None]
