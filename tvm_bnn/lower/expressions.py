"""Expressions of TensorIR made anew with other parts; see ``statements``."""

from collections.abc import Callable

from tvm import tirx
from tvm.ir import Call
from tvm.ir.expr import TensorLoad

from tvm_bnn.lower.index import Scalar

Part = Callable[[Scalar], Scalar]


def rebuilt_expression(expr: Scalar, part: Part) -> Scalar:
    """An expression with ``part`` of each expression in it; variables and constants as they are."""
    if isinstance(expr, TensorLoad):
        return tirx.BufferLoad(expr.source, [part(index) for index in expr.indices])
    if isinstance(expr, Call):
        return Call(expr.op, [part(each) for each in expr.args], expr.attrs, expr.ty_args, expr.span, expr.ty)
    if isinstance(expr, tirx.Cast):
        return tirx.Cast(expr.ty, part(expr.value))
    if isinstance(expr, tirx.Not):
        return tirx.Not(part(expr.a))
    if isinstance(expr, tirx.Select):
        return tirx.Select(part(expr.condition), part(expr.true_value), part(expr.false_value))
    if isinstance(expr, tirx.Let):
        return tirx.Let(expr.var, part(expr.value), part(expr.body))
    if hasattr(expr, "a") and hasattr(expr, "b"):
        return type(expr)(part(expr.a), part(expr.b))
    return expr
