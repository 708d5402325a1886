"""Statements of TensorIR made anew with other parts: what every pass over a kernel has in common."""

from collections.abc import Callable

from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize

Part = Callable[[tirx.Stmt], tirx.Stmt]


def rebuilt(stmt: tirx.Stmt, part: Part) -> tirx.Stmt:
    """A sequence, loop, choice, block or attribute with ``part`` of each statement in it; others as they are.

    What a block does first (its ``init``) stays.
    """
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([part(each) for each in stmt.seq])
    if isinstance(stmt, tirx.For):
        return loop_of(stmt, part(stmt.body))
    if isinstance(stmt, tirx.IfThenElse):
        other = None if stmt.else_case is None else part(stmt.else_case)
        return tirx.IfThenElse(stmt.condition, part(stmt.then_case), other)
    if isinstance(stmt, tirx.AttrStmt):
        return tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, part(stmt.body))
    if isinstance(stmt, SBlockRealize):
        return block_of(stmt, part(stmt.block.body), stmt.block.init)
    return stmt


def loop_of(loop: tirx.For, body: tirx.Stmt, **other) -> tirx.For:
    """A loop with another body, and other fields by name: min, extent, kind, annotations."""
    kept = {name: getattr(loop, name) for name in ("min", "extent", "kind", "annotations")} | other
    return tirx.For(
        loop.loop_var, kept["min"], kept["extent"], kept["kind"], body, loop.thread_binding, kept["annotations"]
    )


def block_of(
    realized: SBlockRealize, body: tirx.Stmt, init: tirx.Stmt | None, buffers: list[tirx.Buffer] | None = None
) -> SBlockRealize:
    """A block with another body, and what it does first; buffers : those that it allocates, by default the same."""
    block = realized.block
    made = SBlock(
        block.iter_vars, block.reads, block.writes, block.name_hint, body, init,
        block.alloc_buffers if buffers is None else buffers, block.match_buffers, block.annotations,
    )  # fmt: skip
    return SBlockRealize(realized.iter_values, realized.predicate, made)
