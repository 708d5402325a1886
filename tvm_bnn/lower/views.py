"""Rearrangements as index arithmetic: where the elements of a view lie in what it is a view of.

Each function answers for element ``index`` of its call by asking the reader for one element of the call's operand.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from tvm import relax, tirx

from tvm_bnn.errors import UnsupportedError
from tvm_bnn.lower.index import Index, Scalar, broadcast_index, shifted, zero
from tvm_bnn.lower.layout import padded_channels
from tvm_bnn.lower.scalar import immediate
from tvm_bnn.relay_passes.arrangement import Arrangement, is_arrangement
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.rewriter import op_name, path_of, shape_of

if TYPE_CHECKING:
    from tvm_bnn.lower.reader import Reader


def _arranged(reader: "Reader", call: relax.Call, index: Index) -> Scalar:
    """Reshapes and permutations in a row: where the element lies in what they rearrange."""
    steps, source = [(call, shape_of(call))], call.args[0]
    while not is_constant(source) and source not in reader.layout_of and source not in reader.stages:
        value = reader.partition.definition[source]
        if not is_arrangement(value):
            break
        steps.append((value, shape_of(source)))
        source = value.args[0]
    order = Arrangement.identity(shape_of(source)).then_all(steps)
    channels = shape_of(call)[1:2]  # padded ones are asked for too
    bounded = tuple(reader.inside(i, channels[0]) if axis == 1 else i for axis, i in enumerate(index))
    place = None if order is None else order.place(bounded)
    if place is None:
        return _reshape(reader, call, index) if op_name(call) != "relax.permute_dims" else _permute(reader, call, index)
    return reader.element(source, tuple(tirx.const(p, "int32") if isinstance(p, int) else p for p in place))


def _reshape(reader: "Reader", call: relax.Call, index: Index) -> Scalar:
    source, result = shape_of(call.args[0]), shape_of(call)
    linear = zero()
    for i, extent in zip(index, result, strict=True):
        linear = linear * extent + i
    linear = tirx.min(linear, math.prod(result) - 1)
    position = []
    for extent in reversed(source):
        position.append(tirx.floormod(linear, extent))
        linear = tirx.floordiv(linear, extent)
    return reader.element(call.args[0], tuple(reversed(position)))


def _permute(reader: "Reader", call: relax.Call, index: Index) -> Scalar:
    rank = len(index)
    axes = call.attrs.axes
    order = [int(a) % rank for a in axes] if axes is not None else list(reversed(range(rank)))
    position = [zero()] * rank
    for target, source in enumerate(order):
        position[source] = index[target]
    return reader.element(call.args[0], tuple(position))


def _slice(reader: "Reader", call: relax.Call, index: Index) -> Scalar:
    shape = shape_of(call.args[0])
    numbers = [[int(v.value) if hasattr(v, "value") else int(v) for v in part.fields] for part in call.args[1:]]
    steps = numbers[3] if len(numbers) > 3 else [1] * len(numbers[0])
    position = list(index)
    for axis, begin, step in zip(numbers[0], numbers[1], steps, strict=True):
        axis %= len(shape)
        begin = begin + shape[axis] if begin < 0 else min(begin, shape[axis])
        position[axis] = index[axis] * step + begin
    return reader.element(call.args[0], tuple(position))


def _concat(reader: "Reader", call: relax.Call, index: Index) -> Scalar:
    fields = call.args[0].fields
    axis = int(call.attrs.axis) % len(index)
    result, begin = None, 0
    for field in fields:
        part = reader.element(field, shifted(index, axis, -begin))
        result = part if result is None else tirx.if_then_else(index[axis] < begin, result, part)
        begin += shape_of(field)[axis]
    return result


def _broadcast(reader: "Reader", call: relax.Call, index: Index) -> Scalar:
    return reader.element(call.args[0], broadcast_index(index, shape_of(call.args[0])))


def _pad(reader: "Reader", call: relax.Call, index: Index) -> Scalar:
    if str(call.attrs.pad_mode) != "constant":
        raise UnsupportedError(f"{path_of(call) or 'the model'}: {call.attrs.pad_mode} padding; constant is accepted")
    shape = shape_of(call.args[0])
    widths = [int(width) for width in call.attrs.pad_width]
    position, inside = [], []
    for axis, extent in enumerate(shape):
        before, after = widths[2 * axis : 2 * axis + 2]
        position.append(index[axis] - before)
        if before:
            inside.append(index[axis] >= before)
        if after:
            inside.append(index[axis] < before + extent)
    value = reader.element(call.args[0], tuple(position))
    if not inside:
        return value
    return tirx.if_then_else(tirx.all(*inside), value, immediate(float(call.attrs.pad_value), str(value.ty.dtype)))


def _take(reader: "Reader", call: relax.Call, index: Index) -> Scalar:
    shape = shape_of(call.args[0])
    axis = int(call.attrs.axis) % len(shape)
    picks = (value_of(call.args[1]) % shape[axis]).astype(np.int32)
    if picks.ndim == 0:
        return reader.element(call.args[0], (*index[:axis], tirx.const(int(picks), "int32"), *index[axis:]))
    table = reader.array(picks, "picks")
    source = table(reader.inside(index[axis], len(picks)))
    return reader.element(call.args[0], (*index[:axis], source, *index[axis + 1 :]))


def _tile(reader: "Reader", call: relax.Call, index: Index) -> Scalar:
    shape = shape_of(call.args[0])
    tail = index[len(index) - len(shape) :]
    return reader.element(call.args[0], tuple(tirx.floormod(i, e) for i, e in zip(tail, shape, strict=True)))


def _flip(reader: "Reader", call: relax.Call, index: Index) -> Scalar:
    axis = int(call.attrs.axis) % len(index)
    return reader.element(call.args[0], (*index[:axis], shape_of(call)[axis] - 1 - index[axis], *index[axis + 1 :]))


def nearest_source(call: relax.Call, axis: int, index):
    """The source row or column of an output row or column of a nearest resize."""
    source, result = shape_of(call.args[0])[axis], shape_of(call)[axis]
    if str(call.attrs.coordinate_transformation_mode) != "asymmetric" or str(call.attrs.rounding_method) != "floor":
        raise UnsupportedError(f"{path_of(call) or 'the model'}: nearest resize other than floor(target * in / out)")
    if source == result:
        return index
    if result % source == 0:
        return tirx.floordiv(index, result // source)
    return tirx.floordiv(index * source, result)


def nearest(reader: "Reader", call: relax.Call, index: Index) -> Scalar:
    """Nearest-neighbour resize."""
    n, c, h, w = index
    return reader.element(call.args[0], (n, c, nearest_source(call, 2, h), nearest_source(call, 3, w)))


def _border_bias(reader: "Reader", call: relax.Call, index: Index) -> Scalar:
    table = value_of(call.args[0])
    channels = table.shape[0]
    padded = np.pad(table, ((0, padded_channels(channels) - channels), (0, 0), (0, 0)))
    values = reader.array(np.ascontiguousarray(padded.transpose(1, 2, 0)), "border")
    row, column = (
        reader.array(np.array([int(v) for v in classes], np.int32), name)
        for classes, name in ((call.attrs["row_class"], "row_class"), (call.attrs["column_class"], "column_class"))
    )
    return values(row(index[2]), column(index[3]), index[1])


#: Operator -> its view.
VIEWS: dict[str, Callable[["Reader", relax.Call, Index], Scalar]] = {
    "relax.reshape": _arranged,
    "relax.expand_dims": _arranged,
    "relax.squeeze": _arranged,
    "relax.flatten": _arranged,
    "relax.permute_dims": _arranged,
    "relax.strided_slice": _slice,
    "relax.concat": _concat,
    "relax.broadcast_to": _broadcast,
    "relax.nn.pad": _pad,
    "relax.take": _take,
    "relax.tile": _tile,
    "relax.flip": _flip,
    "bnn.border_bias": _border_bias,
}
