"""Sums that begin at a number of their own, where ``te.sum`` begins at 0.

``starting_at(start, term)`` is the term of such a sum; start depends on the element alone. ``start_sums`` moves it from
the terms, where tensor expressions leave it, to where the sum begins.
"""

from tvm import tirx
from tvm.s_tir import SBlockRealize

from tvm_bnn.lower.operator import register
from tvm_bnn.lower.statements import block_of, rebuilt

_STARTING_AT = "bnn.starting_at"
register(_STARTING_AT, 2, lambda call: call.args[1])


def starting_at(start, term):
    """A term of a sum that begins at ``start``, of the same dtype."""
    return tirx.call_intrin(str(term.ty.dtype), _STARTING_AT, start, term)


def start_sums(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """A kernel, before it is scheduled, whose sums begin where their terms say."""
    return func.with_body(_started(func.body))


def _started(stmt: tirx.Stmt) -> tirx.Stmt:
    if not isinstance(stmt, SBlockRealize) or not isinstance(stmt.block.body, tirx.BufferStore):
        return rebuilt(stmt, _started)
    body, init = stmt.block.body, stmt.block.init
    if not _is_starting(body.value):
        return stmt
    start, term = body.value.b.args
    step = tirx.BufferStore(body.buffer, body.value.a + term, body.indices)
    return block_of(stmt, step, tirx.BufferStore(init.buffer, start, init.indices))


def _is_starting(value) -> bool:
    return isinstance(value, tirx.Add) and getattr(getattr(value.b, "op", None), "name", "") == _STARTING_AT
