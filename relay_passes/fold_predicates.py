"""Fold: what decides a bit behind a binary layer becomes a test of its integer sum.

Behind a convolution, scale, bias, BN and activation act on each integer by itself, with constants per filter (and per
border class, where padding has one). So the bit is a function of the integer alone, and as integers are few, the
function is found by trying them all: the operators as they were imported are evaluated one by one, in float32, on every
sum that the layer can reach. No rounding is folded, so that the bit is the imported graph's, always.

Where the sums with a True bit are an interval, or all but an interval (PReLU with a negative slope, hardtanh), the test
is ``bnn.interval``. Declines for any other set, and where the bit depends on something else (a residual, a gate): that
bit is computed in floats, with the reason in the layer's record.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import tvm
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.errors import UnsupportedError
from tvm_bnn.reference import evaluate_call
from tvm_bnn.relay_passes.alphabet import describe
from tvm_bnn.relay_passes.binary_sum import MOST_TERMS
from tvm_bnn.relay_passes.decisions import Decisions, Layer
from tvm_bnn.relay_passes.elementwise import ELEMENTWISE
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.readers import operands, readers_of
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, dtype_of, op_name, path_of, run_rewriter, shape_of

#: Values tried at once, over all filters.
_CHUNK = 1 << 22


class _Declined(Exception):
    """Why a predicate stays in floats."""


# of a bit: with more than one it is declined anyway, and along residual connections all layers before are sources
_MOST_SOURCES = 16


@dataclass(frozen=True)
class _Sum:
    """An integer: the layers whose sums it is made of, and its largest magnitude."""

    paths: frozenset[str]
    bound: int


@dataclass
class _Cone:
    """The operators between integer sums and a bit, in order.

    leaves : the integer sums. tables : constants per border class. others : what else the bit depends on.
    """

    leaves: set[relax.Var]
    calls: list[tuple[relax.Var | None, relax.Expr]] = field(default_factory=list)
    tables: list[relax.Var] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    seen: set[relax.Var] = field(default_factory=set)

    @property
    def leaf(self) -> relax.Var:
        """The only integer sum."""
        (leaf,) = self.leaves
        return leaf


class _Folder(DataflowRewriter):
    def __init__(self, decisions: Decisions, roots: set[str]) -> None:
        super().__init__()
        self.roots = roots
        self._layers: defaultdict[str, list[Layer]] = defaultdict(list)
        for layer in decisions.layers:
            if layer.decision == "binary":
                self._layers[layer.path].append(layer)
        self._sums: dict[relax.Var, _Sum | None] = {}

    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        if name not in self.roots or not _is_step(call, shape_of(call)):
            return None
        leaves: set[relax.Var] = set()
        try:
            cone = self._cone(call, leaves)
            bound = self._sum(cone.leaf).bound
            if bound >= MOST_TERMS:
                raise _Declined(f"its sums reach {bound}")
            lowest, width, text = self._interval(cone, call, bound)
        except _Declined as declined:
            for leaf in leaves:
                self._note(leaf, f"float: {declined}")
            return None
        self._note(cone.leaf, text)
        return ops.interval(cone.leaf, lowest, width)

    def _note(self, leaf: relax.Var, text: str) -> None:
        for path in self._sum(leaf).paths:
            for layer in self._layers[path]:
                layer.note_epilogue(text)

    # --- the operators --------------------------------------------------------------------------------------------

    def _cone(self, call: relax.Call, leaves: set[relax.Var]) -> _Cone:
        """Collect what a bit is computed from; ``leaves`` receives the integer sums as they are found."""
        cone = _Cone(leaves)
        self._visit(call, None, cone, shape_of(call))
        if cone.others:
            raise _Declined(f"it depends on {cone.others[0]}")
        if len(leaves) != 1:
            raise _Declined("it depends on several integer sums" if leaves else "it depends on no integer sum")
        if len({_classes(self.lookup(table)) for table in cone.tables}) > 1:
            raise _Declined("it depends on borders of several kinds")
        return cone

    def _visit(self, expr: relax.Expr, var: relax.Var | None, cone: _Cone, shape: tuple[int, ...]) -> None:
        if len(cone.leaves) + len(cone.others) > _MOST_SOURCES:
            return
        for operand in operands(expr):
            if operand in cone.seen:
                continue
            cone.seen.add(operand)
            definition = self.lookup(operand)
            if self._is_sum(operand, shape):
                cone.leaves.add(operand)
            elif op_name(definition) == "bnn.border_bias":
                cone.tables.append(operand)
            elif _is_normalised(self.lookup, definition) or _is_step(definition, shape):
                self._visit(definition, operand, cone, shape)
            else:
                cone.others.append(_described(definition))
        cone.calls.append((var, expr))

    def _is_sum(self, var: relax.Var, shape: tuple[int, ...]) -> bool:
        is_integer = isinstance(var.ty, relax.TensorType) and dtype_of(var) == "int32"
        return is_integer and shape_of(var) == shape and self._known_sum(var) is not None

    def _sum(self, leaf: relax.Var) -> _Sum:
        """What is known of an integer sum."""
        known = self._known_sum(leaf)
        assert known is not None
        return known

    def _known_sum(self, expr: relax.Expr) -> _Sum | None:
        """The same for any integer; None where it is not made of sums of ours alone."""
        if not isinstance(expr, relax.Var):
            return _Sum(frozenset(), int(np.abs(value_of(expr)).max())) if is_constant(expr) else None
        if expr not in self._sums:  # once each: branches may share their terms, level after level
            self._sums[expr] = self._derived_sum(self.lookup(expr))
        return self._sums[expr]

    def _derived_sum(self, definition: relax.Expr) -> _Sum | None:
        name = op_name(definition)
        if name == "bnn.bconv2d":
            return _Sum(frozenset({path_of(definition)}), int(np.prod(shape_of(definition.args[1])[1:])))
        if name == "bnn.bmatmul":
            return _Sum(frozenset({path_of(definition)}), shape_of(definition.args[0])[1])
        if name not in ("relax.add", "relax.multiply"):
            return None
        first, second = (self._known_sum(operand) for operand in definition.args)
        if first is None or second is None:
            return None
        bound = first.bound + second.bound if name == "relax.add" else first.bound * second.bound
        return _Sum(first.paths | second.paths, bound)

    # --- the values -----------------------------------------------------------------------------------------------

    def _interval(self, cone: _Cone, call: relax.Call, bound: int) -> tuple[relax.Expr, relax.Expr, str]:
        filters = shape_of(call)[1]
        if not cone.tables:
            lowest, width, kind = _intervals(self._truth(cone, filters, bound, None), bound)
            return _column(lowest, "int32"), _column(width, "uint32"), f"integer {kind}"
        rows, columns = (list(classes) for classes in _classes(self.lookup(cone.tables[0])))
        counts = (filters, max(rows) + 1, max(columns) + 1)
        tables = np.zeros(counts, np.int32), np.zeros(counts, np.uint32)
        kinds = set()
        for row, column in np.ndindex(*counts[1:]):
            found = _intervals(self._truth(cone, filters, bound, (row, column)), bound)
            tables[0][:, row, column], tables[1][:, row, column] = found[:2]
            kinds.add(found[2])
        views = [self.emit(ops.border_bias(relax.const(table), rows, columns)) for table in tables]
        return views[0], views[1], f"integer {'interval' if 'interval' in kinds else 'threshold'} per border class"

    def _truth(self, cone: _Cone, filters: int, bound: int, border: tuple[int, int] | None) -> np.ndarray:
        """The bit of each filter for each sum from -bound to bound, [O, 2 * bound + 1]."""
        size = 2 * bound + 1
        step = max(_CHUNK // filters, 1)
        parts = [
            self._evaluated(cone, filters, np.arange(first - bound, min(first + step, size) - bound), border)
            for first in range(0, size, step)
        ]
        return np.concatenate(parts, axis=1)

    def _evaluated(self, cone: _Cone, filters: int, sums: np.ndarray, border: tuple[int, int] | None) -> np.ndarray:
        leaf = np.broadcast_to(sums.astype(np.int32)[None, None, :, None], (1, filters, len(sums), 1))
        values: dict[relax.Var, object] = {cone.leaf: leaf}
        for table in cone.tables:
            assert border is not None
            values[table] = value_of(self.lookup(table).args[0])[None, :, border[0], border[1], None, None]
        result: object = None
        for var, expr in cone.calls:
            result = _value(expr, values)
            if var is not None:
                values[var] = result
        return np.broadcast_to(np.asarray(result), leaf.shape)[0, :, :, 0]


def _value(expr: relax.Expr, values: dict[relax.Var, object]) -> object:
    if isinstance(expr, relax.TupleGetItem):
        return values[expr.tuple_value][expr.index]  # type: ignore[index]
    arguments = [
        value_of(a) if is_constant(a) else values.get(a, a) if isinstance(a, relax.Var) else a for a in expr.args
    ]
    try:
        return evaluate_call(expr, arguments)
    except UnsupportedError as error:
        raise _Declined(str(error)) from error


def _is_normalised(lookup, definition: relax.Expr) -> bool:
    """Whether an expression is a constant batch normalisation, or its first field."""
    if isinstance(definition, relax.TupleGetItem):
        return definition.index == 0 and _is_normalised(lookup, lookup(definition.tuple_value))
    return op_name(definition) == "relax.nn.batch_norm" and all(is_constant(a) for a in definition.args[1:])


def _is_step(definition: relax.Expr, shape: tuple[int, ...]) -> bool:
    """Whether an operator acts on elements, with constants that do not vary over the plane."""
    if op_name(definition) not in ELEMENTWISE or shape_of(definition) != shape:
        return False
    return all(not is_constant(a) or shape_of(a)[2:] in ((), (1, 1)) or len(shape_of(a)) < 3 for a in definition.args)


def _described(definition: relax.Expr) -> str:
    return describe(definition) if op_name(definition) else "an input of the model"


def _classes(table: relax.Call) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Class of each row and of each column of a bnn.border_bias."""
    rows, columns = (tuple(int(value) for value in table.attrs[name]) for name in ("row_class", "column_class"))
    return rows, columns


def _column(values: np.ndarray, dtype: str) -> relax.Expr:
    alike = values[:1] if (values == values[0]).all() else values
    return relax.const(alike.astype(dtype).reshape(1, -1, 1, 1))


def _intervals(truth: np.ndarray, bound: int) -> tuple[np.ndarray, np.ndarray, str]:
    """(lowest int32 [O], span uint32 [O], "threshold" or "interval") of bits [O, 2 * bound + 1].

    Sums beyond the bound are never seen, so an end of the range is as good as infinity, and ``lowest + span`` may wrap
    around to mean all but an interval.
    """
    reach = 2 * bound  # a span of all sums: thresholds of either direction have the same
    lowest, width = np.zeros(len(truth), np.int64), np.full(len(truth), reach, np.int64)
    kind = "threshold"
    for index, bits in enumerate(truth):
        changes = np.flatnonzero(bits[1:] != bits[:-1]) + 1 - bound  # sums at which the bit changes
        if len(changes) > 2:
            raise _Declined(f"its bit changes at {len(changes)} sums")
        if len(changes) == 0:
            lowest[index] = -bound if bits[0] else bound + 1
        elif len(changes) == 1:
            lowest[index] = changes[0] - 1 - reach if bits[0] else changes[0]
        else:
            kind = "interval"
            first, second = changes
            lowest[index], width[index] = (
                (second, (first - 1 - second) % 2**32) if bits[0] else (first, second - 1 - first)
            )
    return lowest.astype(np.int32), width.astype(np.uint32), kind


def _roots(function: relax.Function) -> set[str]:
    """Names of predicates that something other than an elementwise operator reads."""
    readers = readers_of(function)
    return {
        var.name
        for var, reading in readers.items()
        if isinstance(var.ty, relax.TensorType)
        and dtype_of(var) == "bool"
        and len(shape_of(var)) == 4
        and any(reader is None or op_name(reader.value) not in ELEMENTWISE for reader in reading)
    }


@tvm.transform.module_pass(opt_level=0, name="FoldPredicates")
class FoldPredicates:
    """Replace predicates of integer sums by ``bnn.interval``; the layers' records say how their bits are made."""

    def __init__(self, decisions: Decisions) -> None:
        self.decisions = decisions

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        roots = _roots(module["main"])
        return run_rewriter(lambda: _Folder(self.decisions, roots), module)
