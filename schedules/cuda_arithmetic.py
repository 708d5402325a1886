"""Arithmetic as nvcc writes it: what LLVM is told by intrinsics of its own, nvcc is told by functions that round so.

Nothing else is contracted (``cubin`` says so to nvcc): of the sums of products that LLVM makes fused multiply-adds of
by itself, ``total + a * b``, TVM makes such here, because it finds a lowering of ``tirx.fma``.
"""

from tvm import tirx
from tvm.target import codegen

_FMA, _MULTIPLY = "__fmaf_rn", "__fmul_rn"


def _lower_intrinsic(call):
    """``arithmetic.fma`` and ``arithmetic.mul``."""
    number, *arguments = call.args
    if int(number) == codegen.llvm_lookup_intrinsic_id("llvm.fma"):
        return tirx.call_pure_extern("float32", _FMA, *arguments)
    assert int(number) == codegen.llvm_lookup_intrinsic_id("llvm.arithmetic.fence"), call
    (product,) = arguments
    return tirx.call_pure_extern("float32", _MULTIPLY, product.a, product.b)


def _lower_fma(call):
    return tirx.call_pure_extern("float32", _FMA, *call.args)


def register() -> None:
    """Tell TVM how code for GPUs rounds."""
    tirx.register_intrin_lowering("tirx.call_llvm_pure_intrin", target="cuda", f=_lower_intrinsic)
    tirx.register_intrin_lowering("tirx.fma", target="cuda", f=_lower_fma)
