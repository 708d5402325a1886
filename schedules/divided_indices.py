"""Divisions in the indices of loads, in a form that TVM's flattening of buffers leaves as it is.

Where a condition bounds a fused index, as of pixels that are no multiple of a block's, flattening writes the indices of
loads below it anew, and forgets the constant in ``(a + b % n + constant) // divisor`` (TVM 0.27; a test shows it). Such
are the rows that a convolution reads of a map that is upsampled. Shifts, and divisions that round to zero, it does not
look into.
"""

from tvm import tirx
from tvm.ir.expr import TensorLoad

from tvm_bnn.lower.expressions import rebuilt_expression
from tvm_bnn.lower.index import Scalar
from tvm_bnn.lower.statements import rebuilt

#: No index is below minus so many times its divisor.
_LEAST = 1 << 16


def with_hidden_divisions(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """A scheduled kernel whose loads divide so, where a quotient or a rest is of a sum or a difference."""
    return func.with_body(_statement(func.body))


def _statement(stmt: tirx.Stmt) -> tirx.Stmt:
    if isinstance(stmt, tirx.BufferStore):
        return tirx.BufferStore(stmt.buffer, _loads(stmt.value), stmt.indices)
    return rebuilt(stmt, _statement)


def _loads(expr: Scalar) -> Scalar:
    return rebuilt_expression(expr, _hidden if isinstance(expr, TensorLoad) else _loads)


def _hidden(index: Scalar) -> Scalar:
    made = rebuilt_expression(index, _hidden)
    if not isinstance(made, tirx.FloorDiv | tirx.FloorMod) or not isinstance(made.b, tirx.IntImm):
        return made
    divisor = int(made.b)
    if not isinstance(made.a, tirx.Add | tirx.Sub) or divisor < 2:
        return made
    quotient = isinstance(made, tirx.FloorDiv)
    if divisor & (divisor - 1) == 0:
        number, power = tirx.const(divisor - 1, made.ty.dtype), tirx.const(divisor.bit_length() - 1, made.ty.dtype)
        return made.a >> power if quotient else made.a & number
    positive = made.a + tirx.const(_LEAST * divisor, made.ty.dtype)
    if quotient:
        return tirx.truncdiv(positive, made.b) - tirx.const(_LEAST, made.ty.dtype)
    return tirx.truncmod(positive, made.b)
