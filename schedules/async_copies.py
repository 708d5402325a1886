"""Copies to shared memory that go on while a GPU computes (``cp.async``).

TVM's software pipeline marks what a loop reads ahead, and waits for it; here the stores so marked become such copies.
(TVM's own pass leaves out words that are chosen: the window of a pixel at the border has zeros. PTX copies fewer bytes
than it stores and fills up with zeros, so a choice is a number of bytes, all or none.)
"""

import tvm
from tvm import DataType, tirx

from tvm_bnn.cubin import COPIES
from tvm_bnn.lower.statements import rebuilt

#: What TVM puts around copies whose end is waited for later.
_COMMITTED = "async_commit_queue_scope"


@tirx.transform.prim_func_pass(opt_level=0, name="CopyAhead")
class CopyAhead:
    """Copies ahead in every function that is launched."""

    def transform_function(self, func: tirx.PrimFunc, _module: tvm.IRModule, _context) -> tirx.PrimFunc:
        """Rewrite one function."""
        return func.with_body(_rewritten(func.body))


def _rewritten(stmt: tirx.Stmt) -> tirx.Stmt:
    if isinstance(stmt, tirx.AttrStmt) and stmt.attr_key == _COMMITTED:
        return rebuilt(stmt, _with_copies)
    return rebuilt(stmt, _rewritten)


def _with_copies(stmt: tirx.Stmt) -> tirx.Stmt:
    """A statement whose stores of the GPU's memory, or of zeros, to shared memory are copies that are not awaited."""
    if not isinstance(stmt, tirx.BufferStore) or stmt.buffer.scope() != "shared":
        return rebuilt(stmt, _with_copies)
    there, read = tirx.const(True), stmt.value
    if isinstance(read, tvm.ir.Call) and read.op.name == "prim.if_then_else" and _is_zero(read.args[2]):
        there, read, _ = read.args
    if isinstance(read, tvm.ir.Call) and read.op.name == "prim.reinterpret":  # a number's bits
        (read,) = read.args
    if not _is_load(read):
        return stmt
    (to,), (source,) = stmt.indices, read.indices
    size = DataType(str(stmt.buffer.dtype)).itemsize * _lanes(to)
    if size not in COPIES or _lanes(to) != _lanes(source):
        return stmt
    places = [tirx.address_of(tirx.BufferLoad(b, [_first(i)])) for b, i in ((stmt.buffer, to), (read.source, source))]
    return tirx.Evaluate(tirx.call_extern("int32", COPIES[size], *places, there))


def _is_load(value: tvm.ir.Expr) -> bool:
    """Whether it is an element of the GPU's memory, or neighbours there."""
    return isinstance(value, tvm.ir.expr.TensorLoad) and value.source.scope() in ("", "global")


def _is_zero(value: tvm.ir.Expr) -> bool:
    value = value.value if isinstance(value, tirx.Broadcast) else value
    return isinstance(value, tirx.IntImm) and int(value.value) == 0


def _lanes(index: tvm.ir.Expr) -> int:
    """How many neighbours an index means; 0 for what are no neighbours."""
    if not isinstance(index, tirx.Ramp):
        return 1
    return int(index.lanes) if isinstance(index.stride, tirx.IntImm) and int(index.stride) == 1 else 0


def _first(index: tvm.ir.Expr) -> tvm.ir.Expr:
    return index.base if isinstance(index, tirx.Ramp) else index
