"""Registers: buffers of a tile stay on the stack, from where LLVM keeps them in registers.

TVM asks its runtime for the memory of every buffer of 1024 bytes and more, which are 16 vectors of 512 bits: a tile of
four pixels and 64 filters. LLVM then fills, stores and loads in memory what it could have kept in registers.
"""

from math import prod

import tvm
import tvm_ffi
from tvm import DataType, tirx
from tvm.tirx.compilation_pipeline import get_tir_pipeline, register_tir_pipeline

from tvm_bnn.lower.statements import rebuilt
from tvm_bnn.schedules.async_copies import CopyAhead

#: What kernels are built with: TVM's own passes, and the buffers of tiles on the stack.
PIPELINE = "tvm_bnn"
#: Bytes of the largest such buffer; a thread's stack has megabytes.
_MOST_BYTES = 16 << 10
#: TVM's annotation of a buffer that it shall not ask its runtime for.
_AS_IT_IS = "disable_lower_builtin"


def keep_on_stack(stmt: tirx.Stmt) -> tirx.Stmt:
    """Mark the buffers of scope "local" in a statement, behind all passes but the last."""
    if isinstance(stmt, tirx.AllocBuffer):
        return _marked(stmt)
    return rebuilt(stmt, keep_on_stack)


def _marked(stmt: tirx.AllocBuffer) -> tirx.AllocBuffer:
    buffer = stmt.buffer
    if buffer.scope() != "local" or not all(isinstance(extent, tirx.IntImm) for extent in buffer.shape):
        return stmt
    if prod(int(extent) for extent in buffer.shape) * DataType(str(buffer.dtype)).itemsize > _MOST_BYTES:
        return stmt
    return tirx.AllocBuffer(buffer, {**stmt.annotations, _AS_IT_IS: tirx.const(True)})


@tirx.transform.prim_func_pass(opt_level=0, name="KeepOnStack")
class KeepOnStack:
    """``keep_on_stack`` of every function."""

    def transform_function(self, func: tirx.PrimFunc, _module: tvm.IRModule, _context) -> tirx.PrimFunc:
        """Mark the buffers of one function."""
        return func.with_body(keep_on_stack(func.body))


@tvm.transform.module_pass(opt_level=0, name="DealOutWarps")
class DealOutWarps:
    """Give each thread of a warp its part of every buffer of scope "warp"; TVM's pass does so with one at a time."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Deal out until nothing changes."""
        dealt = tirx.transform.LowerWarpMemory()(module)
        while not tvm_ffi.structural_equal(dealt, module):
            module, dealt = dealt, tirx.transform.LowerWarpMemory()(dealt)
        return module


def _pipeline() -> tuple:
    """TVM's passes over modules, over functions of the host and over those of a device."""
    passes, host, device = get_tir_pipeline("default")
    return (
        passes,
        lambda: tvm.transform.Sequential([KeepOnStack(), host()]),
        lambda: tvm.transform.Sequential([DealOutWarps(), CopyAhead(), device()]),
    )


register_tir_pipeline(PIPELINE, _pipeline)
