"""Sums that leave terms out: each term says whether it counts, and a scheduled kernel does not visit the others.

``within(first, last, index, value)`` is value where first <= index < last, else 0. In a sum it stands around the whole
term. ``bound_sums`` makes it the bounds of the loop that is ``index`` (what else that loop holds is there for the sum).
Where the loop was split or fused with others, or the bounds depend on a loop inside of it, it stays a choice for each
element; unrolled loops make that choice when they are built.
"""

from collections.abc import Iterator

import tvm
from tvm import ir, tirx
from tvm.s_tir import SBlockRealize, transform

from tvm_bnn.lower.operator import register
from tvm_bnn.lower.statements import loop_of, rebuilt

_WITHIN = "bnn.within"
#: Loop variable -> its first value, and the one behind its last.
_Bounds = dict[tirx.Var, tuple[tirx.Expr, tirx.Expr]]


def _lower_within(call):
    """A choice for each element, or for lanes that agree; the value is not computed where it does not count."""
    first, last, index = (each.value if isinstance(each, tirx.Broadcast) else each for each in call.args[:3])
    zero = tirx.const(0, str(call.ty.dtype))
    return tirx.if_then_else(tirx.And(first <= index, index < last), call.args[3], zero)


register(_WITHIN, 4, _lower_within)


def within(first, last, index, value):
    """The value where first <= index < last (int32), else 0."""
    return tirx.call_intrin(str(value.ty.dtype), _WITHIN, first, last, index, value)


def bound_sums(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """A scheduled kernel whose loops over the terms of a sum run over those that count.

    Buffers get their places before: TVM puts one outside of all loops that an axis of its sum depends on, and the
    first row of a window depends on the loop that the threads share.
    """
    if all(_choice(store) is None for store in stores(func.body)):
        return func
    place = tvm.transform.Sequential(
        [
            transform.LowerInitBlock(),
            transform.PlanAndUpdateBufferAllocationLocation(),
            transform.ConvertBlocksToOpaque(),
        ]
    )
    placed = place(tvm.IRModule({"main": func}))["main"]
    return placed.with_body(_bounded(placed.body, (), {}))


def stores(stmt: tirx.Stmt) -> Iterator[tirx.BufferStore]:
    """The stores in blocks, sequences and loops."""
    if isinstance(stmt, tirx.BufferStore):
        yield stmt
    elif isinstance(stmt, SBlockRealize):
        yield from stores(stmt.block.body)
    elif isinstance(stmt, tirx.SeqStmt):
        for part in stmt.seq:
            yield from stores(part)
    elif isinstance(stmt, tirx.For):
        yield from stores(stmt.body)


def _choice(store: tirx.BufferStore) -> ir.Call | None:
    """The choice that a store adds to a sum, if it does."""
    added = store.value.b if isinstance(store.value, tirx.Add) else None
    return added if getattr(getattr(added, "op", None), "name", "") == _WITHIN else None


def _bounded(stmt: tirx.Stmt, around: tuple[tirx.Var, ...], found: _Bounds) -> tirx.Stmt:
    """A statement without choices that are about loops; around : those loops' variables, found : their bounds."""
    if isinstance(stmt, tirx.BufferStore):
        choice = _choice(stmt)
        if choice is None:
            return stmt
        first, last, index, term = choice.args
        if not isinstance(index, tirx.Var):
            return stmt
        inside = around[around.index(index) :]
        if any(var.same_as(inner) for var in tirx.analysis.undefined_vars(first + last) for inner in inside):
            return stmt
        found[index] = first, last
        return tirx.BufferStore(stmt.buffer, stmt.value.a + term, stmt.indices)
    if isinstance(stmt, tirx.For):
        body = _bounded(stmt.body, (*around, stmt.loop_var), found)
        if stmt.loop_var not in found:
            return loop_of(stmt, body)
        begin, last = found.pop(stmt.loop_var)
        return loop_of(stmt, body, min=begin, extent=last - begin)
    return rebuilt(stmt, lambda part: _bounded(part, around, found))
