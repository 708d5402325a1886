"""Canonicalize: evaluate every call whose operands are all constants (weight-side arithmetic, folded shapes).

``sign(w) * mean(|w|)`` becomes one constant. Evaluation is the reference evaluator's, so the constant is what the
graph means. Declines where the evaluator has no code for the operator: the call then stays in the graph.
"""

import numpy as np
import tvm
from tvm import relax

from tvm_bnn.errors import UnsupportedError
from tvm_bnn.reference import evaluate_call
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, run_rewriter


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


class _Folder(DataflowRewriter):
    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        if not call.args or not all(_foldable(argument) for argument in call.args):
            return None
        try:
            value = evaluate_call(call, [_argument(argument) for argument in call.args])
        except UnsupportedError:
            return None
        if isinstance(value, tuple):
            return relax.Tuple([_constant(field) for field in value])
        return _constant(value)


@tvm.transform.module_pass(opt_level=0, name="FoldConstants")
class FoldConstants:
    """Replace constant expressions by their values."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        return run_rewriter(_Folder, module)
