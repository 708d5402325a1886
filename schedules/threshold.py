"""Which kernels are worth starting threads for: small ones run in the thread that calls them.

To hand a loop to other threads and to wait for them takes 2 to 3 us each time, which is as long as a small map's whole
kernel takes. Work is counted in *steps*: the stores that a scheduled kernel executes, those of a vector being one. In
kernels of all kinds a step takes 0.8 to 1.1 ns where maps lie in a cache (Emerald Rapids), 0.3 in float convolutions.
Where a kernel reads more than it computes, as a linear layer reads its weights, it takes as long as that.
"""

from collections.abc import Iterable
from math import prod

import tvm
from tvm import DataType, sym, tirx
from tvm.ir import Range
from tvm.s_tir import SBlockRealize

from tvm_bnn.lower.statements import loop_of, rebuilt

#: Steps that other threads must take over before they are started.
STARTING = 5000
#: Bytes that a thread reads in the time of a step, from beyond its own caches.
READ = 32


def share_large(scheduled: tvm.IRModule, kernels: Iterable[str], threads: int) -> tvm.IRModule:
    """A module of scheduled kernels in which the small ones share nothing; the same where there is one thread."""
    if threads == 1:
        return scheduled
    shared = scheduled.clone()
    for name in kernels:
        func = scheduled[name]
        if steps(func) * (threads - 1) < STARTING * threads:
            shared.update_func(scheduled.get_global_var(name), func.with_body(_alone(func.body)))
    return shared


def steps(func: tirx.PrimFunc) -> int:
    """Steps of a scheduled kernel; at most, where bounds vary. As many at least as reading its arguments takes."""
    size = sum(prod(map(int, each.shape)) * DataType(str(each.dtype)).itemsize for each in func.params)
    return max(_steps(func.body, sym.Analyzer()), size // READ)


def _steps(stmt: tirx.Stmt, analyzer: sym.Analyzer) -> int:
    if isinstance(stmt, tirx.SeqStmt):
        return sum(_steps(part, analyzer) for part in stmt.seq)
    if isinstance(stmt, tirx.For):
        analyzer.bind(stmt.loop_var, Range.from_min_extent(stmt.min, stmt.extent))
        most = int(analyzer.const_int_bound(stmt.extent).max_value)
        return (1 if stmt.kind == tirx.ForKind.VECTORIZED else most) * _steps(stmt.body, analyzer)
    if isinstance(stmt, tirx.IfThenElse):
        other = 0 if stmt.else_case is None else _steps(stmt.else_case, analyzer)
        return max(_steps(stmt.then_case, analyzer), other)
    if isinstance(stmt, SBlockRealize):
        first = 0 if stmt.block.init is None else _steps(stmt.block.init, analyzer)
        return max(_steps(stmt.block.body, analyzer), first)
    body = getattr(stmt, "body", None)
    return 1 if body is None else _steps(body, analyzer)


def _alone(stmt: tirx.Stmt) -> tirx.Stmt:
    """A statement without parallel loops."""
    if isinstance(stmt, tirx.For) and stmt.kind == tirx.ForKind.PARALLEL:
        return loop_of(stmt, _alone(stmt.body), kind=tirx.ForKind.SERIAL)
    return rebuilt(stmt, _alone)
