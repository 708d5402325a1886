"""Steps of sums that LLVM would not always make one instruction of, said to it once kernels are scheduled.

*Counted bits that are added up in pairs* (``bnn.add_counts``): LLVM makes one instruction of a count of bits in 16-bit
lanes and the addition behind it for 64-bit Arm (UADALP) alone; 32-bit Arm has it as well (VPADAL).

*A product that is added* is rounded once, where the processor can. LLVM fuses the two when it chooses instructions. By
then it may have made vectors of a scalar sum's products (64-bit Arm adds those up in order), of which none is fused; so
scalar ones are said to be fused before. In vectors of a kernel's own that does not happen.
"""

from collections.abc import Callable

from tvm import tirx

from tvm_bnn.arithmetic import fma
from tvm_bnn.lower.operator import register
from tvm_bnn.lower.statements import rebuilt

_ADD_COUNTS = "bnn.add_counts"
_LANES, _DTYPES = 8, ("int16", "uint16")
_ADD_PAIRS = "llvm.arm.neon.vpadalu"
#: A store, and whether a vector stores so -> what stands for it.
_Change = Callable[[tirx.BufferStore, bool], tirx.BufferStore]


def _lower_add_counts(call):
    """sum + popcount(bits): of a vector, the bits of bytes, added up two by two on the way."""
    total, bits = call.args
    dtype = str(call.ty.dtype)
    if dtype.partition("x")[2] != str(_LANES):
        return total + tirx.popcount(bits).astype(dtype)
    counts = tirx.popcount(tirx.reinterpret(f"uint8x{2 * _LANES}", bits))
    return tirx.call_llvm_pure_intrin(dtype, _ADD_PAIRS, total, counts)


register(_ADD_COUNTS, 2, _lower_add_counts)


def fused_steps(func: tirx.PrimFunc, target) -> tirx.PrimFunc:
    """A scheduled kernel whose sums take such steps as the target has instructions for."""
    changes = ([_in_pairs] if target.arch == "arm" else []) + ([_fused] if target.fuses else [])
    for change in changes:
        func = func.with_body(_changed(func.body, change, False))
    return func


def _changed(stmt: tirx.Stmt, change: _Change, vector: bool) -> tirx.Stmt:
    if isinstance(stmt, tirx.BufferStore):
        return change(stmt, vector)
    if isinstance(stmt, tirx.For) and stmt.kind == tirx.ForKind.VECTORIZED:
        vector = vector or int(stmt.extent) > 1
    return rebuilt(stmt, lambda part: _changed(part, change, vector))


def _in_pairs(store: tirx.BufferStore, _vector: bool) -> tirx.BufferStore:
    value = store.value
    if not isinstance(value, tirx.Add) or str(value.ty.dtype) not in _DTYPES:
        return store
    count = value.b.value if isinstance(value.b, tirx.Cast) else value.b
    if getattr(getattr(count, "op", None), "name", "") != "tirx.popcount" or str(count.ty.dtype) != "uint16":
        return store
    counted = tirx.call_intrin(str(value.ty.dtype), _ADD_COUNTS, value.a, count.args[0])
    return tirx.BufferStore(store.buffer, counted, store.indices)


def _fused(store: tirx.BufferStore, vector: bool) -> tirx.BufferStore:
    value = store.value
    if vector or not isinstance(value, tirx.Add) or not isinstance(value.b, tirx.Mul):
        return store
    total = getattr(value.a, "source", None)
    if str(value.ty.dtype) != "float32" or total is None or not total.same_as(store.buffer):
        return store
    return tirx.BufferStore(store.buffer, fma(value.b.a, value.b.b, value.a), store.indices)
