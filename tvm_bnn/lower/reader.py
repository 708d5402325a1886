"""Where the elements of a value lie: reading any logical element of any value in one kernel.

A kernel asks for element (n, c, h, w) of a value. If the value is stored, that is a load from its layout; if it is a
member of the kernel's own region, it is the scalar expression of its operator; if it is a view, the question is passed
on with rewritten indices. A view therefore costs no kernel and no memory.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import tvm
from tvm import relax, sym, te, tirx

from tvm_bnn.errors import UnsupportedError
from tvm_bnn.lower.index import Index, Scalar, broadcast_index, shifted, split_offset, zero
from tvm_bnn.lower.layout import WORD, Layout, padded_channels, stored_shape, words
from tvm_bnn.lower.scalar import immediate, reads, scalar
from tvm_bnn.lower.tally import Table, Tally, number_tally, stored_table
from tvm_bnn.lower.views import VIEWS, nearest
from tvm_bnn.relay_passes.elementwise import ELEMENTWISE
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.partition import Partition, Region
from tvm_bnn.relay_passes.readers import operands
from tvm_bnn.relay_passes.rewriter import dtype_of, op_name, path_of, shape_of

#: A scale that may be doubled.
_LARGE = np.float32(2.0**64)


class Reader:
    """Builds the inputs and expressions of one kernel.

    partition : the whole function's regions and definitions.
    layout_of : how each stored value lies in memory.
    region : the region that the kernel computes (its members are expressions, not loads).
    inputs, arguments : placeholders, and what to pass for them (Relax variables or numpy arrays), in one order.
    stages : values of the region that are tensors inside the kernel, with a function from index to element.
    suffix : of the names of stages, while the second or a later convolution of a kernel is built.
    word_stages : those of them that are words of bits, with a function from (pixel, position) to word.
    tallies : those of them that are integer sums, and what they count.
    """

    def __init__(self, partition: Partition, layout_of: dict[relax.Var, Layout], region: Region | None) -> None:
        self.partition = partition
        self.layout_of = layout_of
        self.region = region
        self.inputs: list[te.Tensor] = []
        self.arguments: list[relax.Var | np.ndarray] = []
        self.stages: dict[relax.Var, Callable[[Index], Scalar]] = {}
        self.suffix = ""
        self.word_stages: dict[relax.Var, Callable[[Index, Scalar], Scalar]] = {}
        self.tallies: dict[relax.Var, Tally] = {}
        self.analyzer = sym.Analyzer()
        members = [partition.definition[member] for member in region.values] if region is not None else []
        self._readers = Counter(operand for call in members for operand in operands(call) * reads(call))
        self._shared: dict[tuple[relax.Var, str], tirx.Var] = {}
        self._let: list[tuple[tirx.Var, Scalar]] = []
        self._placeholder: dict[object, te.Tensor] = {}
        self._stage: dict[Hashable, te.Tensor] = {}

    # --- inputs ---------------------------------------------------------------------------------------------

    def array(self, value: np.ndarray, name: str) -> te.Tensor:
        """A constant array as an input of the kernel; equal arrays are passed once."""
        key = (value.shape, str(value.dtype), value.tobytes())
        if key not in self._placeholder:
            self._placeholder[key] = self._input(value.shape, str(value.dtype), name, value)
        return self._placeholder[key]

    def table(self, table: Table, index: Index) -> Scalar:
        """Value of a table at (n, c, y, x)."""
        values = table.values
        if values.size == 1:
            return immediate(values.flat[0], str(values.dtype))
        _, c, y, x = index
        row, column = (
            self.array(np.array(classes, np.int32), name)(place) if classes else zero()
            for classes, name, place in ((table.rows, "row_class", y), (table.columns, "column_class", x))
        )
        return self.array(stored_table(table), "table")(row, column, c if len(values) > 1 else zero())

    def stored(self, var: relax.Var) -> te.Tensor:
        """A value of another kernel (or an argument of the model) as an input."""
        if var not in self._placeholder:
            layout = self.layout_of[var]
            dtype = "uint32" if layout is Layout.BITS else dtype_of(var)
            self._placeholder[var] = self._input(stored_shape(shape_of(var), layout), dtype, var.name, var)
        return self._placeholder[var]

    def has_stored_words(self, var: relax.Var) -> bool:
        """Whether the words of a value's bits are read as they are stored, by another kernel."""
        made_here = var in self.word_stages or self.is_member(var)
        return self.layout_of.get(var) is Layout.BITS and not made_here

    def _input(self, shape: Sequence[int], dtype: str, name: str, argument) -> te.Tensor:
        tensor = te.placeholder(tuple(shape), dtype, name=name)
        self.inputs.append(tensor)
        self.arguments.append(argument)
        return tensor

    # --- elements -------------------------------------------------------------------------------------------

    def element(self, expr: relax.Expr, index: Index) -> Scalar:
        """Element of a value at a logical index."""
        if is_constant(expr):
            return self._constant(expr, index)
        if not isinstance(expr, relax.Var):
            return self._defined(expr, None, index)
        if expr in self.stages:
            return self.stages[expr](index)
        if expr in self.layout_of and not self.is_member(expr):
            return self._load(expr, index)
        return self._defined(self.partition.definition[expr], expr, index)

    def view(self, var: relax.Var) -> Callable[[Index], Scalar]:
        """Logical index -> element of a view, where it lies: no stage copies it."""
        return lambda index: self._defined(self.partition.definition[var], var, index)

    def is_member(self, var: relax.Var) -> bool:
        """Whether a value is made inside the kernel."""
        return self.region is not None and self.partition.region_of.get(var) is self.region

    def _defined(self, value: relax.Expr, var: relax.Var | None, index: Index) -> Scalar:
        if isinstance(value, relax.Var) or is_constant(value):
            return self.element(value, index)
        if isinstance(value, relax.TupleGetItem):
            return self._tuple_field(value, index)
        if var is not None and self.is_member(var):
            return self._shared_member(var, value, index)
        if op_name(value) in ELEMENTWISE:  # in no region: its only reader computes it
            return self._member(value, index)
        view = VIEWS.get(op_name(value))
        if is_nearest(value):
            view = nearest
        if view is None:
            raise UnsupportedError(f"{path_of(value) or 'the model'}: no kernel for {op_name(value)}")
        return view(self, value, index)

    def _shared_member(self, var: relax.Var, call: relax.Call, index: Index) -> Scalar:
        """A member's value, bound to a name the first time it is asked for at an index.

        Expressions are trees: without names, a chain of activations that each read their input twice would double in
        size at every step.
        """
        key = (var, str(index))
        if key not in self._shared:
            value = self._larger_of_both(call, index)
            value = self._member(call, index) if value is None else value
            if str(value.ty.dtype) == "bool" or self._readers[var] < 2:  # TVM cannot bind a vector of booleans
                return value
            self._shared[key] = tirx.Var(var.name, str(value.ty.dtype))
            self._let.append((self._shared[key], value))
        return self._shared[key]

    def _member(self, call: relax.Call, index: Index) -> Scalar:
        for shortcut in (self._test_of_count, self._affine_of_count):
            value = shortcut(call, index)
            if value is not None:
                return value
        operands = [
            self.element(argument, broadcast_index(index, shape_of(argument)))
            for argument in call.args
            if isinstance(argument.ty, relax.TensorType)
        ]
        return scalar(call, operands)

    def _test_of_count(self, call: relax.Call, index: Index) -> Scalar | None:
        """An integer test as comparisons of what the integer counts, where constants tell them."""
        if op_name(call) != "bnn.interval":
            return None
        data = call.args[0]
        lowest, span = (Table.of(a, lambda expr: self.partition.definition.get(expr)) for a in call.args[1:])
        tally = self.tallies.get(data) or number_tally(lambda i: self.element(data, broadcast_index(i, shape_of(data))))
        return tally.test(lowest, span, self.table, index) if len(index) == 4 else None

    def _affine_of_count(self, call: relax.Call, index: Index) -> Scalar | None:
        """An affine map of an integer sum as one of what it counts: the factor between both, a power of two, goes to
        the scale, where it changes no rounding.
        """
        tally = self.tallies.get(call.args[0]) if op_name(call) == "bnn.affine" else None
        if tally is None or tally.factor == 1 or len(index) != 4 or not all(map(is_constant, call.args[1:])):
            return None
        scale, shift = map(value_of, call.args[1:])
        if (tally.base.values % 2).any() or not (np.abs(scale) < _LARGE).all():
            return None
        if (np.signbit(shift) & (shift == 0)).any():  # tells one zero from the other
            return None
        operands = [
            tally.part(self.table, broadcast_index(index, shape_of(call.args[0]))).astype("float32"),
            self._constant(relax.const(scale * np.float32(tally.factor)), broadcast_index(index, scale.shape)),
            self._constant(call.args[2], broadcast_index(index, shift.shape)),
        ]
        return scalar(call, operands)

    def _larger_of_both(self, call: relax.Call, index: Index) -> Scalar | None:
        """PReLU, ``where(x > 0, x, a * x)``, as the larger of x and a * x: one instruction of a processor.

        They are the same for a <= 1 and not 0: a * x is no larger than x above 0, no smaller below, and of zeros and
        NaN the second is taken either way.
        """
        if op_name(call) != "relax.where" or len(call.args) != 3:
            return None
        test, x, product = (self.partition.definition.get(a, a) if i != 1 else a for i, a in enumerate(call.args))
        if op_name(test) != "relax.greater" or op_name(product) != "relax.multiply":
            return None
        slopes = [value_of(a) for a in product.args if is_constant(a)]
        zeros = is_constant(test.args[1]) and not value_of(test.args[1]).any()
        if not zeros or not test.args[0].same_as(x) or not any(a.same_as(x) for a in product.args):
            return None
        if len(slopes) != 1 or not ((slopes[0] <= 1) & (slopes[0] != 0) & np.isfinite(slopes[0])).all():
            return None
        # nothing is named: this may be part of a sum, around which nothing can be
        first, second = (self.element(each, broadcast_index(index, shape_of(each))) for each in (x, call.args[2]))
        return tirx.Select(first > second, first, second)

    def _tuple_field(self, item: relax.TupleGetItem, index: Index) -> Scalar:
        source = item.tuple_value
        bound = self.partition.definition[source] if isinstance(source, relax.Var) else source
        if isinstance(bound, relax.Tuple):
            return self.element(bound.fields[item.index], index)
        if op_name(bound) == "relax.split":
            axis, begin = split_offset(bound, item.index)
            return self.element(bound.args[0], shifted(index, axis, begin))
        raise UnsupportedError(f"{path_of(bound) or 'the model'}: no kernel for {op_name(bound)}")

    def _constant(self, constant: relax.Expr, index: Index) -> Scalar:
        value, dtype = value_of(constant), dtype_of(constant)
        if value.size == 1:
            return immediate(value.reshape(-1)[0], dtype)
        if value.dtype == np.bool_:
            value = value.astype(np.uint8)
        stored, position = _constant_layout(value, index)
        loaded = self.array(stored, "constant")(*position)
        return tirx.NE(loaded, tirx.const(0, "uint8")) if dtype == "bool" else loaded

    def _load(self, var: relax.Var, index: Index) -> Scalar:
        shape, layout = shape_of(var), self.layout_of[var]
        index = tuple(i if extent > 1 else zero() for i, extent in zip(index, shape, strict=True))
        tensor = self.stored(var)
        if layout is Layout.PLAIN:
            channels = 1 if len(shape) in (2, 4) else len(shape) - 3  # the axis, where readers have four
            return tensor(*(self.inside(i, shape[axis]) if axis == channels else i for axis, i in enumerate(index)))
        held = padded_channels(shape[1]) if layout is Layout.MAP else words(shape[1]) * WORD
        channel, pixel = self.inside(index[1], held), (index[0], *index[2:])
        if layout is Layout.MAP:
            return tensor(*pixel, channel)
        word = tensor(*pixel, tirx.floordiv(channel, WORD))
        bit = (channel & (WORD - 1)).astype("uint32")  # TVM divides flipped channels by negative numbers
        return tirx.NE((word >> bit) & tirx.const(1, "uint32"), tirx.const(0, "uint32"))

    def inside(self, index, extent: int):
        """A channel index clamped to what is stored, unless it provably stays there.

        Kernels compute padded channels too; theirs may read any value, but only inside the tensor.
        """
        try:
            provable = self.analyzer.can_prove(index < extent)
        except TypeError:  # an index from a table: the analyzer cannot hold elements of te tensors
            provable = False
        return index if provable else tirx.min(index, extent - 1)

    def compute(
        self,
        shape: Sequence[int],
        element: Callable[..., Scalar] | Sequence[Callable[..., Scalar]],
        name: str,
        attrs: Mapping[str, int | str] | None = None,
    ) -> te.Tensor:
        """``te.compute`` whose index ranges the reader knows while it builds the expression.

        element : of one stage, or of each of several in the same loops, of which a list is returned.
        attrs : what the stage tells its schedule, as annotations of its block.
        """

        def value_at(index: tuple, element: Callable[..., Scalar]) -> Scalar:
            self._shared, self._let = {}, []
            value = element(*index)
            for variable, bound in reversed(self._let):
                value = tirx.Let(variable, bound, value)
            return value

        def known(*index):
            for variable, extent in zip(index, shape, strict=True):
                self.analyzer.bind(variable, tvm.ir.Range(0, extent))
            return value_at(index, element) if callable(element) else tuple(value_at(index, each) for each in element)

        return te.compute(tuple(shape), known, name=name + self.suffix, attrs=attrs)

    def once(self, key: Hashable | None, make: Callable[[], te.Tensor]) -> te.Tensor:
        """A stage that several convolutions of the kernel read, made for the first of them; None: for one alone."""
        if key is None:
            return make()
        if key not in self._stage:
            self._stage[key] = make()
        return self._stage[key]

    def reduce_axis(self, extent: int, name: str):
        """A reduction axis (IterVar) whose range the reader knows."""
        axis = te.reduce_axis((0, extent), name)
        self.analyzer.bind(axis.var, tvm.ir.Range(0, extent))
        return axis


def _constant_layout(value: np.ndarray, index: Index) -> tuple[np.ndarray, Index]:
    """How a constant is stored, and the position of an element: channels last and padded like a MAP."""
    if value.ndim not in (1, 2, 4):
        return value, index
    channel_axis = 0 if value.ndim == 1 else 1
    channels = value.shape[channel_axis]
    if channels == 1:
        moved = np.moveaxis(value, channel_axis, -1)
        return moved, (*index[:channel_axis], *index[channel_axis + 1 :], zero())
    widths = [(0, 0)] * value.ndim
    widths[channel_axis] = (0, padded_channels(channels) - channels)
    moved = np.ascontiguousarray(np.moveaxis(np.pad(value, widths), channel_axis, -1))
    return moved, (*index[:channel_axis], *index[channel_axis + 1 :], index[channel_axis])
