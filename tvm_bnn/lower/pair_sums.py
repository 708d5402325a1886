"""Counted bits that 32-bit Arm adds up in pairs: VPADAL, as UADALP in 64 bits.

LLVM makes one instruction of a count of bits in 16-bit lanes and the addition behind it for 64-bit Arm alone. For
32-bit Arm ``add_pairs`` says which sums are such, once they are scheduled, and each vector becomes that instruction.
"""

from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize

from tvm_bnn.lower.operator import register

_ADD_COUNTS = "bnn.add_counts"
_LANES, _DTYPES = 8, ("int16", "uint16")
_INSTRUCTION = "llvm.arm.neon.vpadalu"


def _lower_add_counts(call):
    """sum + popcount(bits): of a vector, the bits of bytes, added up two by two on the way."""
    total, bits = call.args
    dtype = str(call.ty.dtype)
    if dtype.partition("x")[2] != str(_LANES):
        return total + tirx.popcount(bits).astype(dtype)
    counts = tirx.popcount(tirx.reinterpret(f"uint8x{2 * _LANES}", bits))
    return tirx.call_llvm_pure_intrin(dtype, _INSTRUCTION, total, counts)


register(_ADD_COUNTS, 2, _lower_add_counts)


def add_pairs(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """A scheduled kernel whose sums of counts, of 16 bits, take one instruction a vector."""
    return func.with_body(_added(func.body))


def _added(stmt: tirx.Stmt) -> tirx.Stmt:
    if isinstance(stmt, tirx.BufferStore):
        return _counting(stmt)
    if isinstance(stmt, tirx.SeqStmt):
        return tirx.SeqStmt([_added(part) for part in stmt.seq])
    if isinstance(stmt, tirx.For):
        body = _added(stmt.body)
        return tirx.For(stmt.loop_var, stmt.min, stmt.extent, stmt.kind, body, stmt.thread_binding, stmt.annotations)
    if not isinstance(stmt, SBlockRealize):
        return stmt
    block = stmt.block
    made = SBlock(
        block.iter_vars, block.reads, block.writes, block.name_hint, _added(block.body), block.init,
        block.alloc_buffers, block.match_buffers, block.annotations,
    )  # fmt: skip
    return SBlockRealize(stmt.iter_values, stmt.predicate, made)


def _counting(store: tirx.BufferStore) -> tirx.BufferStore:
    value = store.value
    if not isinstance(value, tirx.Add) or str(value.ty.dtype) not in _DTYPES:
        return store
    count = value.b.value if isinstance(value.b, tirx.Cast) else value.b
    if getattr(getattr(count, "op", None), "name", "") != "tirx.popcount" or str(count.ty.dtype) != "uint16":
        return store
    counted = tirx.call_intrin(str(value.ty.dtype), _ADD_COUNTS, value.a, count.args[0])
    return tirx.BufferStore(store.buffer, counted, store.indices)
