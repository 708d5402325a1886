"""Sums that begin at a number of their own, where ``te.sum`` begins at 0.

``starting_at(start, term)`` is the term of such a sum; start depends on the element alone. ``start_sums`` moves it from
the terms, where tensor expressions leave it, to where the sum begins.
"""

from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize

from tvm_bnn.lower.operator import register

_STARTING_AT = "bnn.starting_at"
register(_STARTING_AT, 2, lambda call: call.args[1])


def starting_at(start, term):
    """A term of a sum that begins at ``start``, of the same dtype."""
    return tirx.call_intrin(str(term.ty.dtype), _STARTING_AT, start, term)


def start_sums(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """A kernel, before it is scheduled, whose sums begin where their terms say."""
    return func.with_body(_started(func.body))


def _started(stmt: tirx.Stmt) -> tirx.Stmt:
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([_started(part) for part in stmt.seq])
    if isinstance(stmt, tirx.For):
        body = _started(stmt.body)
        return tirx.For(stmt.loop_var, stmt.min, stmt.extent, stmt.kind, body, stmt.thread_binding, stmt.annotations)
    if not isinstance(stmt, SBlockRealize):
        return stmt
    block = stmt.block
    body, init = _started(block.body), block.init
    if isinstance(body, tirx.BufferStore) and _is_starting(body.value):
        start, term = body.value.b.args
        body = tirx.BufferStore(body.buffer, body.value.a + term, body.indices)
        init = tirx.BufferStore(init.buffer, start, init.indices)
    made = SBlock(
        block.iter_vars, block.reads, block.writes, block.name_hint, body, init,
        block.alloc_buffers, block.match_buffers, block.annotations,
    )  # fmt: skip
    return SBlockRealize(stmt.iter_values, stmt.predicate, made)


def _is_starting(value) -> bool:
    return isinstance(value, tirx.Add) and getattr(getattr(value.b, "op", None), "name", "") == _STARTING_AT
