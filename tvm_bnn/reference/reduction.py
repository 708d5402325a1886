"""Reductions. A float sum adds in order, from 0, along the last of its axes first, then along the one before.

A sum over (y, x) is thus the sum of the rows' sums. A mean divides once, by the count.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
from tvm import relax

from tvm_bnn.reference.attributes import axes
from tvm_bnn.reference.elementwise import Operator


def ordered_sum(x: np.ndarray, over: Sequence[int]) -> np.ndarray:
    """Sum over sorted axes in the defined order, keeping them as 1. Integers add exactly."""
    if x.dtype.kind in "iub":
        return x.sum(axis=tuple(over), keepdims=True, dtype=x.dtype)
    for axis in reversed(over):
        lanes = np.ascontiguousarray(np.moveaxis(x, axis, 0))
        total = np.zeros(lanes.shape[1:], x.dtype)
        for lane in lanes:
            total += lane
        x = np.expand_dims(total, axis)
    return x


def ordered_mean(x: np.ndarray, over: Sequence[int]) -> np.ndarray:
    """The ordered sum divided by the count."""
    return ordered_sum(x, over) / x.dtype.type(_count(x, over))


def ordered_variance(x: np.ndarray, over: Sequence[int]) -> np.ndarray:
    """Mean of the squared distances from the mean, each square rounded."""
    distance = x - ordered_mean(x, over)
    return ordered_mean(distance * distance, over)


def _ordered_deviation(x: np.ndarray, over: Sequence[int]) -> np.ndarray:
    return np.sqrt(ordered_variance(x, over))


def _count(x: np.ndarray, over: Sequence[int]) -> int:
    return reduce(lambda product, axis: product * x.shape[axis], over, 1)


def _greatest(x: np.ndarray, over: Sequence[int]) -> np.ndarray:
    return x.max(axis=tuple(over), keepdims=True)


def _least(x: np.ndarray, over: Sequence[int]) -> np.ndarray:
    return x.min(axis=tuple(over), keepdims=True)


def _ordered_product(x: np.ndarray, over: Sequence[int]) -> np.ndarray:
    for axis in reversed(over):
        x = np.expand_dims(reduce(np.multiply, np.moveaxis(x, axis, 0)), axis)
    return x


def _reduction(function: Callable[[np.ndarray, Sequence[int]], np.ndarray]) -> Operator:
    def evaluate(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
        x = args[0]
        over = axes(call.attrs.axis, x.ndim)
        out = function(x, over)
        return out if call.attrs.keepdims else out.squeeze(over)

    return evaluate


def _arg(function: Callable) -> Operator:
    """argmax or argmin: int64, the first of equals; the first NaN goes before all."""

    def evaluate(call: relax.Call, args: Sequence[np.ndarray]) -> np.ndarray:
        axis = call.attrs.axis
        found = function(args[0], axis=None if axis is None else int(axis), keepdims=bool(call.attrs.keepdims))
        return np.asarray(found, np.int64)

    return evaluate


def topk(call: relax.Call, args: Sequence[np.ndarray]):
    """relax.topk: the k greatest (least) along an axis in order, the first of equals first."""
    attrs, x = call.attrs, args[0]
    axis = int(attrs.axis) % x.ndim
    k = int(attrs.k)
    ranked = _descending(x, axis) if attrs.largest else np.argsort(x, axis=axis, kind="stable")
    indices = ranked if k < 1 else np.take(ranked, np.arange(k), axis=axis)
    values = np.take_along_axis(x, indices, axis)
    indices = indices.astype(str(attrs.dtype))
    return {"both": (values, indices), "values": values, "indices": indices}[str(attrs.ret_type)]


def _descending(x: np.ndarray, axis: int) -> np.ndarray:
    """Stable order from greatest to least: the ascending order of the reversed lane, reversed."""
    last = x.shape[axis] - 1
    return last - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)


total = _reduction(ordered_sum)
mean = _reduction(ordered_mean)
variance = _reduction(ordered_variance)
deviation = _reduction(_ordered_deviation)
product = _reduction(_ordered_product)
greatest = _reduction(_greatest)
least = _reduction(_least)
argmax = _arg(np.argmax)
argmin = _arg(np.argmin)
