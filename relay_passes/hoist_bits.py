"""Hoist: a comparison of a rearranged tensor becomes the rearrangement of a comparison, so that bits travel.

``view(x) >= t  ==  view(x >= t')`` for concat, permute, reshape and nearest resize, with t' rearranged back;
``max_pool(x) >= t  ==  max_pool(x >= t)``, and ``<`` is the complement of ``>=``. The comparison then stands behind
whatever made x, often a convolution, which never writes its real values. (A NaN in a pooled window counts as below t.)

Declines where something else reads the rearranged tensor as numbers, and where t varies over the plane.
"""

import numpy as np
import tvm
from tvm import relax

from tvm_bnn.relay_passes.arrangement import Arrangement, cut
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.readers import readers_of
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, op_name, run_rewriter, shape_of

_COMPARISONS = {"relax.greater_equal", "relax.greater", "relax.less", "relax.less_equal"}
_COMPLEMENT = {"relax.less": "relax.greater_equal", "relax.less_equal": "relax.greater"}
_VIEWS = {"relax.concat", "relax.permute_dims", "relax.reshape", "relax.nn.max_pool2d"}


class _Hoister(DataflowRewriter):
    def __init__(self, only_compared: set[str]) -> None:
        super().__init__()
        self.only_compared = only_compared

    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        if op_name(call) not in _COMPARISONS or is_constant(call.args[0]) or not is_constant(call.args[1]):
            return None
        data, constant = call.args
        if not self._passes(data) or shape_of(data) != shape_of(call):
            return None
        threshold = value_of(constant)
        threshold = threshold.reshape((1,) * (len(shape_of(data)) - threshold.ndim) + threshold.shape)
        return self._compared(op_name(call), data, threshold, call.span)

    def _passes(self, data: relax.Expr) -> bool:
        view = self.lookup(data)
        is_view = op_name(view) in _VIEWS or is_nearest(view)
        return is_view and isinstance(data, relax.Var) and data.name in self.only_compared

    def _compared(self, compare: str, data: relax.Expr, threshold: np.ndarray, span) -> relax.Expr:
        """``data <compare> threshold``, the last call left unbound."""
        moved = self._moved(compare, data, threshold, span) if self._passes(data) else None
        if moved is not None:
            return moved
        return relax.Call(tvm.ir.Op.get(compare), [data, relax.const(threshold)], span=span)

    def _moved(self, compare: str, data: relax.Expr, threshold: np.ndarray, span) -> relax.Expr | None:
        view = self.lookup(data)
        name = op_name(view)
        if name == "relax.concat":
            return self._behind_concat(compare, view, threshold, span)
        if name == "relax.nn.max_pool2d":
            positive = _COMPLEMENT.get(compare, compare)
            bits = self.emit(self._compared(positive, view.args[0], threshold, span), span=span)
            pooled = relax.Call(view.op, [bits], view.attrs, view.ty_args, view.span)
            return pooled if positive == compare else relax.op.logical_not(self.emit(pooled, span=span))
        before = _taken_back(view, threshold)
        if before is None:
            return None
        bits = self.emit(self._compared(compare, view.args[0], before, span), span=span)
        return relax.Call(view.op, [bits, *view.args[1:]], view.attrs, view.ty_args, view.span)

    def _behind_concat(self, compare: str, view: relax.Call, threshold: np.ndarray, span) -> relax.Expr:
        axis = int(view.attrs.axis) % threshold.ndim
        fields = list(view.args[0].fields)
        parts = cut(threshold, [shape_of(field)[axis] for field in fields], axis)
        bits = [
            self.emit(self._compared(compare, field, part, span), span=span)
            for field, part in zip(fields, parts, strict=True)
        ]
        return relax.op.concat(bits, axis)


def _taken_back(view: relax.Call, threshold: np.ndarray) -> np.ndarray | None:
    """The threshold of the tensor before the view; None where it would vary over more than one axis."""
    source = shape_of(view.args[0])
    if threshold.size == 1:
        return threshold.reshape((1,) * len(source))
    if is_nearest(view):
        return threshold if threshold.shape[2:] == (1, 1) else None
    arrangement = Arrangement.identity(source).then(view, shape_of(view))
    before = None if arrangement is None else arrangement.taken_back(threshold)
    if before is None:
        return None
    return before if sum(extent > 1 for extent in before.shape) <= 1 or len(source) > 4 else None


def _only_compared(function: relax.Function) -> set[str]:
    """Names of values that only comparisons with constants read, directly or through views that these alone read."""
    readers = readers_of(function)
    found: set[str] = set()
    for var in reversed(list(readers)):
        if readers[var] and all(_compares(reader, found) for reader in readers[var]):
            found.add(var.name)
    return found


def _compares(reader: relax.Binding | None, found: set[str]) -> bool:
    if reader is None:
        return False
    name = op_name(reader.value)
    if name in _COMPARISONS:
        return is_constant(reader.value.args[1])
    return (name in _VIEWS or is_nearest(reader.value)) and reader.var.name in found


@tvm.transform.module_pass(opt_level=0, name="HoistBits")
class HoistBits:
    """Move comparisons before the rearrangements that they follow."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        only_compared = _only_compared(module["main"])
        return run_rewriter(lambda: _Hoister(only_compared), module)
