"""Canonicalize: evaluate every call whose operands are all constants (weight-side arithmetic, folded shapes).

``sign(w) * mean(|w|)`` becomes one constant. Evaluation is the reference evaluator's, so the constant is what the
graph means. ``ones_like(x)`` is a constant too, and where an operator reads such a tensor of equal numbers beside
one of its result's shape, it reads the number alone: nothing is stored at the size of a map. Declines where the
evaluator has no code for the operator: the call then stays in the graph.
"""

import numpy as np
import tvm
from tvm import relax

from tvm_bnn.errors import UnsupportedError
from tvm_bnn.reference import evaluate_call
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, op_name, run_rewriter, shape_of

_LIKE = frozenset({"relax.full_like", "relax.ones_like", "relax.zeros_like"})
# of these the shape is that of the operands together, so that a number may stand for a tensor of equal numbers
_ELEMENTWISE = frozenset(
    f"relax.{name}"
    for name in (
        "where add subtract multiply divide maximum minimum equal not_equal less less_equal greater greater_equal"
    ).split()
)


def is_constant(expr: relax.Expr) -> bool:
    """Whether expr is a tensor constant."""
    return isinstance(expr, tvm.ir.GenericConst)


def value_of(constant: relax.Expr) -> np.ndarray:
    """The array that a constant holds."""
    return constant.value.numpy()


def _argument(expr: relax.Expr):
    if isinstance(expr, relax.Tuple):
        return tuple(_argument(field) for field in expr.fields)
    return value_of(expr) if is_constant(expr) else expr


def _foldable(expr: relax.Expr) -> bool:
    if isinstance(expr, relax.Tuple):
        return all(_foldable(field) for field in expr.fields)
    return is_constant(expr) or isinstance(expr, relax.ShapeExpr | tvm.tirx.IntImm | tvm.tirx.FloatImm)


def _constant(value: np.ndarray) -> relax.Expr:
    return relax.const(np.array(value, order="C"))  # unlike ascontiguousarray, this leaves a scalar its rank


def _number(expr: relax.Expr) -> relax.Expr:
    """A constant of equal elements as one number of rank 0; anything else is itself."""
    if not is_constant(expr) or int(np.prod(shape_of(expr))) < 2:
        return expr
    value = value_of(expr)
    same = value.view(f"u{value.itemsize}") == value.view(f"u{value.itemsize}").flat[0]  # zeros of both signs differ
    return _constant(value.flat[0]) if np.all(same) else expr


class _Folder(DataflowRewriter):
    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        if op_name(call) in _LIKE and all(is_constant(argument) for argument in call.args[1:]):
            # only the shape of the first operand counts
            like = np.broadcast_to(np.zeros((), str(call.args[0].ty.dtype)), shape_of(call.args[0]))
            return _constant(evaluate_call(call, [like, *map(_argument, call.args[1:])]))
        if not call.args or not all(_foldable(argument) for argument in call.args):
            return self._with_numbers(call)
        try:
            value = evaluate_call(call, [_argument(argument) for argument in call.args])
        except UnsupportedError:
            return None
        if isinstance(value, tuple):
            return relax.Tuple([_constant(field) for field in value])
        return _constant(value)

    @staticmethod
    def _with_numbers(call: relax.Call) -> relax.Expr | None:
        shape = shape_of(call) if op_name(call) in _ELEMENTWISE else None
        if not any(shape_of(argument) == shape for argument in call.args if isinstance(argument, relax.Var)):
            return None
        arguments = [_number(argument) for argument in call.args]
        if all(new.same_as(old) for new, old in zip(arguments, call.args, strict=True)):
            return None
        return relax.Call(call.op, arguments, call.attrs, call.ty_args, call.span)


@tvm.transform.module_pass(opt_level=0, name="FoldConstants")
class FoldConstants:
    """Replace constant expressions by their values."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        return run_rewriter(_Folder, module)
