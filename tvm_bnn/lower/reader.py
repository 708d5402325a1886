"""Where the elements of a value lie: reading any logical element, or any word of bits, of any value in one kernel.

A kernel asks for element (n, c, h, w) of a value. If the value is stored, that is a load from its layout; if it is a
member of the kernel's own region, it is the scalar expression of its operator; if it is a view, the question is passed on
with rewritten indices. A view therefore costs no kernel and no memory.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import tvm
from tvm import relax, sym, te, tirx

from tvm_bnn.errors import UnsupportedError
from tvm_bnn.lower.layout import WORD, Layout, padded_channels, stored_shape, words
from tvm_bnn.lower.scalar import immediate, scalar
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.partition import Partition, Region, operands
from tvm_bnn.relay_passes.rewriter import dtype_of, op_name, path_of, shape_of

Index = tuple


class Reader:
    """Builds the inputs and expressions of one kernel.

    partition : the whole function's regions and definitions.
    layout_of : how each stored value lies in memory.
    region : the region that the kernel computes (its members are expressions, not loads).
    inputs, arguments : placeholders, and what to pass for them (Relax variables or numpy arrays), in one order.
    stages : values of the region that are tensors inside the kernel, with a function from index to element.
    """

    def __init__(self, partition: Partition, layout_of: dict[relax.Var, Layout], region: Region | None) -> None:
        self.partition = partition
        self.layout_of = layout_of
        self.region = region
        self.inputs: list[te.Tensor] = []
        self.arguments: list[relax.Var | np.ndarray] = []
        self.stages: dict[relax.Var, Callable[[Index], object]] = {}
        self.analyzer = sym.Analyzer()
        members = region.members if region is not None else []
        self._readers = Counter(o for m in members for o in operands(partition.definition[m]))
        self._shared: dict[tuple[relax.Var, str], tirx.Var] = {}
        self._let: list[tuple[tirx.Var, object]] = []
        self._placeholder: dict[object, te.Tensor] = {}

    # --- inputs ---------------------------------------------------------------------------------------------

    def array(self, value: np.ndarray, name: str) -> te.Tensor:
        """A constant array as an input of the kernel; equal arrays are passed once."""
        key = (value.shape, str(value.dtype), value.tobytes())
        if key not in self._placeholder:
            self._placeholder[key] = self._input(value.shape, str(value.dtype), name, value)
        return self._placeholder[key]

    def stored(self, var: relax.Var) -> te.Tensor:
        """A value of another kernel (or an argument of the model) as an input."""
        if var not in self._placeholder:
            layout = self.layout_of[var]
            dtype = "uint32" if layout is Layout.BITS else dtype_of(var)
            self._placeholder[var] = self._input(stored_shape(shape_of(var), layout), dtype, var.name, var)
        return self._placeholder[var]

    def _input(self, shape: Sequence[int], dtype: str, name: str, argument) -> te.Tensor:
        tensor = te.placeholder(tuple(shape), dtype, name=name)
        self.inputs.append(tensor)
        self.arguments.append(argument)
        return tensor

    # --- elements -------------------------------------------------------------------------------------------

    def element(self, expr: relax.Expr, index: Index) -> object:
        """Element of a value at a logical index."""
        if is_constant(expr):
            return self._constant(expr, index)
        if not isinstance(expr, relax.Var):
            return self._defined(expr, None, index)
        if expr in self.stages:
            return self.stages[expr](index)
        if expr in self.layout_of and not self._is_member(expr):
            return self._load(expr, index)
        return self._defined(self.partition.definition[expr], expr, index)

    def _is_member(self, var: relax.Var) -> bool:
        return self.region is not None and self.partition.region_of.get(var) is self.region

    def _defined(self, value: relax.Expr, var: relax.Var | None, index: Index) -> object:
        if isinstance(value, relax.Var):
            return self.element(value, index)
        if isinstance(value, relax.TupleGetItem):
            return self._tuple_field(value, index)
        if var is not None and self._is_member(var):
            return self._shared_member(var, value, index)
        view = _VIEWS.get(op_name(value))
        if is_nearest(value):
            view = _nearest
        if view is None:
            raise UnsupportedError(f"{path_of(value) or 'the model'}: no kernel for {op_name(value)}")
        return view(self, value, index)

    def _shared_member(self, var: relax.Var, call: relax.Call, index: Index) -> object:
        """A member's value, bound to a name the first time it is asked for at an index.

        Expressions are trees: without names, a chain of activations that each read their input twice would double in
        size at every step.
        """
        key = (var, str(index))
        if key not in self._shared:
            value = self._member(call, index)
            if str(value.ty.dtype) == "bool" or self._readers[var] < 2:  # TVM cannot bind a vector of booleans
                return value
            self._shared[key] = tirx.Var(var.name, str(value.ty.dtype))
            self._let.append((self._shared[key], value))
        return self._shared[key]

    def _member(self, call: relax.Call, index: Index) -> object:
        operands = [
            self.element(argument, broadcast_index(index, shape_of(argument)))
            for argument in call.args
            if isinstance(argument.ty, relax.TensorType)
        ]
        return scalar(call, operands)

    def _tuple_field(self, item: relax.TupleGetItem, index: Index) -> object:
        source = item.tuple_value
        bound = self.partition.definition[source] if isinstance(source, relax.Var) else source
        if isinstance(bound, relax.Tuple):
            return self.element(bound.fields[item.index], index)
        if op_name(bound) == "relax.split":
            axis, begin = split_offset(bound, item.index)
            return self.element(bound.args[0], _shifted(index, axis, begin))
        raise UnsupportedError(f"{path_of(bound) or 'the model'}: no kernel for {op_name(bound)}")

    def _constant(self, constant: relax.Expr, index: Index) -> object:
        value, dtype = value_of(constant), dtype_of(constant)
        if value.size == 1:
            return immediate(value.reshape(-1)[0], dtype)
        if value.dtype == np.bool_:
            value = value.astype(np.uint8)
        stored, position = _constant_layout(value, index)
        loaded = self.array(stored, "constant")(*position)
        return tirx.NE(loaded, tirx.const(0, "uint8")) if dtype == "bool" else loaded

    def _load(self, var: relax.Var, index: Index) -> object:
        shape, layout = shape_of(var), self.layout_of[var]
        index = tuple(i if extent > 1 else _zero() for i, extent in zip(index, shape, strict=True))
        tensor = self.stored(var)
        if layout is Layout.PLAIN:
            return tensor(*(self.inside(i, e) if a == 1 else i for a, (i, e) in enumerate(zip(index, shape, strict=True))))
        held = padded_channels(shape[1]) if layout is Layout.MAP else words(shape[1]) * WORD
        channel, pixel = self.inside(index[1], held), (index[0], *index[2:])
        if layout is Layout.MAP:
            return tensor(*pixel, channel)
        word = tensor(*pixel, tirx.floordiv(channel, WORD))
        bit = tirx.floormod(channel, WORD).astype("uint32")
        return tirx.NE((word >> bit) & tirx.const(1, "uint32"), tirx.const(0, "uint32"))

    def inside(self, index, extent: int):
        """A channel index clamped to what is stored, unless it provably stays there.

        Kernels compute padded channels too; theirs may read any value, but only inside the tensor.
        """
        return index if self.analyzer.can_prove(index < extent) else tirx.min(index, extent - 1)

    def compute(self, shape: Sequence[int], element: Callable[..., object], name: str) -> te.Tensor:
        """``te.compute`` whose index ranges the reader knows while it builds the expression."""

        def known(*index):
            for variable, extent in zip(index, shape, strict=True):
                self.analyzer.bind(variable, tvm.ir.Range(0, extent))
            self._shared, self._let = {}, []
            value = element(*index)
            for variable, bound in reversed(self._let):
                value = tirx.Let(variable, bound, value)
            return value

        return te.compute(tuple(shape), known, name=name)

    def reduce_axis(self, extent: int, name: str):
        """A reduction axis (IterVar) whose range the reader knows."""
        axis = te.reduce_axis((0, extent), name)
        self.analyzer.bind(axis.var, tvm.ir.Range(0, extent))
        return axis

    # --- words of bits --------------------------------------------------------------------------------------

    def word(self, expr: relax.Expr, pixel: Index, position) -> object | None:
        """Word ``position`` of the channel bits of a pixel (n, h, w); None where no whole word can be had."""
        if not isinstance(expr, relax.Var):
            return None
        shape = shape_of(expr)
        if self.layout_of.get(expr) is Layout.BITS:
            n, h, w = (i if e > 1 else _zero() for i, e in zip(pixel, (shape[0], *shape[2:], 1, 1)[:3], strict=True))
            return self.stored(expr)(*((n, h, w) if len(shape) == 4 else (n,)), position)
        value = self.partition.definition.get(expr)
        if value is None or self._is_member(expr):
            return None
        if isinstance(value, relax.Var):
            return self.word(value, pixel, position)
        if is_nearest(value):
            n, h, w = pixel
            rows, columns = (_nearest_source(value, axis, i) for axis, i in ((2, h), (3, w)))
            return self.word(value.args[0], (n, rows, columns), position)
        if op_name(value) in ("relax.reshape", "relax.expand_dims", "relax.squeeze"):
            same = shape[:2] == shape_of(value.args[0])[:2] and math.prod(shape) == shape[0] * shape[1]
            return self.word(value.args[0], pixel, position) if same else None
        if isinstance(value, relax.TupleGetItem):
            bound = self.partition.definition[value.tuple_value]
            if op_name(bound) == "relax.split":
                axis, begin = split_offset(bound, value.index)
                if axis == 1 and begin % WORD == 0 and shape[1] % WORD == 0:
                    return self.word(bound.args[0], pixel, position + begin // WORD)
        if op_name(value) == "relax.concat" and int(value.attrs.axis) == 1:
            return self._concat_word(value, pixel, position)
        return None

    def _concat_word(self, call: relax.Call, pixel: Index, position) -> object | None:
        fields = call.args[0].fields
        if any(shape_of(field)[1] % WORD for field in fields):
            return None
        result, begin = None, 0
        for field in fields:
            part = self.word(field, pixel, position - begin)
            if part is None:
                return None
            result = part if result is None else tirx.if_then_else(position < begin, result, part)
            begin += words(shape_of(field)[1])
        return result


def _zero():
    return tirx.const(0, "int32")


def broadcast_index(index: Index, shape: tuple[int, ...]) -> Index:
    """The index of an operand of this shape when the result is asked at index (numpy's broadcasting)."""
    tail = index[len(index) - len(shape) :]
    return tuple(i if extent != 1 else _zero() for i, extent in zip(tail, shape, strict=True))


def split_offset(split: relax.Call, field: int) -> tuple[int, int]:
    """Axis of a split and where a field begins on it."""
    sections, axis = split.attrs.indices_or_sections, int(split.attrs.axis)
    shape = shape_of(split.args[0])
    axis %= len(shape)
    if hasattr(sections, "value") or isinstance(sections, int):
        step = -(-shape[axis] // int(sections))
        return axis, field * step
    return axis, [0, *(int(s) for s in sections)][field]


def _shifted(index: Index, axis: int, begin) -> Index:
    return (*index[:axis], index[axis] + begin, *index[axis + 1 :])


def _constant_layout(value: np.ndarray, index: Index) -> tuple[np.ndarray, Index]:
    """How a constant is stored, and the position of an element: channels last and padded like a MAP."""
    if value.ndim not in (1, 2, 4):
        return value, index
    channel_axis = 0 if value.ndim == 1 else 1
    channels = value.shape[channel_axis]
    if channels == 1:
        moved = np.moveaxis(value, channel_axis, -1)
        return moved, (*index[:channel_axis], *index[channel_axis + 1 :], _zero())
    widths = [(0, 0)] * value.ndim
    widths[channel_axis] = (0, padded_channels(channels) - channels)
    moved = np.ascontiguousarray(np.moveaxis(np.pad(value, widths), channel_axis, -1))
    return moved, (*index[:channel_axis], *index[channel_axis + 1 :], index[channel_axis])


# --- views ----------------------------------------------------------------------------------------------------


def _unit_free(shape: tuple[int, ...]) -> list[int]:
    return [axis for axis, extent in enumerate(shape) if extent != 1]


def _reshape(reader: Reader, call: relax.Call, index: Index) -> object:
    source, result = shape_of(call.args[0]), shape_of(call)
    kept_source, kept_result = _unit_free(source), _unit_free(result)
    if [source[a] for a in kept_source] == [result[a] for a in kept_result]:
        position = [_zero()] * len(source)
        for a, b in zip(kept_source, kept_result, strict=True):
            position[a] = index[b]
        return reader.element(call.args[0], tuple(position))
    linear = _zero()
    for i, extent in zip(index, result, strict=True):
        linear = linear * extent + i
    linear = tirx.min(linear, math.prod(result) - 1)
    position = []
    for extent in reversed(source):
        position.append(tirx.floormod(linear, extent))
        linear = tirx.floordiv(linear, extent)
    return reader.element(call.args[0], tuple(reversed(position)))


def _permute(reader: Reader, call: relax.Call, index: Index) -> object:
    rank = len(index)
    axes = call.attrs.axes
    order = [int(a) % rank for a in axes] if axes is not None else list(reversed(range(rank)))
    position = [_zero()] * rank
    for target, source in enumerate(order):
        position[source] = index[target]
    return reader.element(call.args[0], tuple(position))


def _slice(reader: Reader, call: relax.Call, index: Index) -> object:
    shape = shape_of(call.args[0])
    numbers = [[int(v.value) if hasattr(v, "value") else int(v) for v in part.fields] for part in call.args[1:]]
    steps = numbers[3] if len(numbers) > 3 else [1] * len(numbers[0])
    position = list(index)
    for axis, begin, step in zip(numbers[0], numbers[1], steps, strict=True):
        axis %= len(shape)
        begin = begin + shape[axis] if begin < 0 else min(begin, shape[axis])
        position[axis] = index[axis] * step + begin
    return reader.element(call.args[0], tuple(position))


def _concat(reader: Reader, call: relax.Call, index: Index) -> object:
    fields = call.args[0].fields
    axis = int(call.attrs.axis) % len(index)
    result, begin = None, 0
    for field in fields:
        part = reader.element(field, _shifted(index, axis, -begin))
        result = part if result is None else tirx.if_then_else(index[axis] < begin, result, part)
        begin += shape_of(field)[axis]
    return result


def _broadcast(reader: Reader, call: relax.Call, index: Index) -> object:
    return reader.element(call.args[0], broadcast_index(index, shape_of(call.args[0])))


def _pad(reader: Reader, call: relax.Call, index: Index) -> object:
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


def _take(reader: Reader, call: relax.Call, index: Index) -> object:
    axis, picks = int(call.attrs.axis), value_of(call.args[1]).astype(np.int32)
    if picks.ndim == 0:
        return reader.element(call.args[0], (*index[:axis], tirx.const(int(picks), "int32"), *index[axis:]))
    if picks.ndim != 1:
        raise UnsupportedError(f"{path_of(call) or 'the model'}: take with indices of rank {picks.ndim}")
    table = reader.array(picks, "picks")
    return reader.element(call.args[0], (*index[:axis], table(index[axis]), *index[axis + 1 :]))


def _tile(reader: Reader, call: relax.Call, index: Index) -> object:
    shape = shape_of(call.args[0])
    tail = index[len(index) - len(shape) :]
    return reader.element(call.args[0], tuple(tirx.floormod(i, e) for i, e in zip(tail, shape, strict=True)))


def _flip(reader: Reader, call: relax.Call, index: Index) -> object:
    axis = int(call.attrs.axis) % len(index)
    return reader.element(
        call.args[0], (*index[:axis], shape_of(call)[axis] - 1 - index[axis], *index[axis + 1 :])
    )


def _nearest_source(call: relax.Call, axis: int, index):
    source, result = shape_of(call.args[0])[axis], shape_of(call)[axis]
    if str(call.attrs.coordinate_transformation_mode) != "asymmetric" or str(call.attrs.rounding_method) != "floor":
        raise UnsupportedError(f"{path_of(call) or 'the model'}: nearest resize other than floor(target * in / out)")
    if source == result:
        return index
    if result % source == 0:
        return tirx.floordiv(index, result // source)
    return tirx.floordiv(index * source, result)


def _nearest(reader: Reader, call: relax.Call, index: Index) -> object:
    n, c, h, w = index
    return reader.element(call.args[0], (n, c, _nearest_source(call, 2, h), _nearest_source(call, 3, w)))


def _border_bias(reader: Reader, call: relax.Call, index: Index) -> object:
    table = value_of(call.args[0])
    channels = table.shape[0]
    padded = np.pad(table, ((0, padded_channels(channels) - channels), (0, 0), (0, 0)))
    values = reader.array(np.ascontiguousarray(padded.transpose(1, 2, 0)), "border")
    row, column = (
        reader.array(np.array([int(v) for v in classes], np.int32), name)
        for classes, name in ((call.attrs["row_class"], "row_class"), (call.attrs["column_class"], "column_class"))
    )
    return values(row(index[2]), column(index[3]), index[1])


_VIEWS: dict[str, Callable[[Reader, relax.Call, Index], object]] = {
    "relax.reshape": _reshape,
    "relax.expand_dims": _reshape,
    "relax.squeeze": _reshape,
    "relax.flatten": _reshape,
    "relax.permute_dims": _permute,
    "relax.strided_slice": _slice,
    "relax.concat": _concat,
    "relax.broadcast_to": _broadcast,
    "relax.nn.pad": _pad,
    "relax.take": _take,
    "relax.tile": _tile,
    "relax.flip": _flip,
    "bnn.border_bias": _border_bias,
}
