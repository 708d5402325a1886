"""What a compiled network does call by call, told from its module: work, bytes moved, and when memory is in use.

TVM's own passes plan the memory when the network is built; here they run again, up to the plan.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import tvm
from tvm import relax

from tvm_bnn.compiler import Compilation
from tvm_bnn.lower import lower
from tvm_bnn.relay_passes.rewriter import bindings_of, op_name
from tvm_bnn.report.compare.content import Buffer, MemoryPlan
from tvm_bnn.report.limit import CONTRACTIONS, is_binary, macs


@dataclass(frozen=True)
class CallWork:
    """One call of a kernel.

    binary_macs, float_macs : multiply-accumulates, padded taps included. bytes : of its arguments and results, each
    once; one that is written over another counts once.
    """

    kernel: str
    binary_macs: int
    float_macs: int
    bytes: int


def planned(made: Compilation) -> tuple[list[CallWork], MemoryPlan]:
    """The kernel calls of one inference, in order, and the memory between them; constants have their own."""
    lowered = lower(made.optimized, made.target)
    walk = _Walk(_with_storage(lowered.module, made.target.tvm()))
    times = Counter(walk.kernels)
    binary: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for binding in bindings_of(made.optimized["main"]):
        kernel = lowered.kernel_of.get(binding.var.name)
        if kernel is not None and op_name(binding.value) in CONTRACTIONS:
            (binary if is_binary(binding.value) else others)[kernel] += macs(binding.value)
    # the calls of one kernel do the same
    calls = [
        CallWork(kernel, binary[kernel] // times[kernel], others[kernel] // times[kernel], size)
        for kernel, size in zip(walk.kernels, walk.moved, strict=True)
    ]
    return calls, walk.plan()


#: TVM's default pipeline up to the plan (`tvm.relax.pipeline.default_build_pipeline`).
_UP_TO_STORAGE = (
    relax.backend.DispatchSampling,
    relax.backend.DispatchSortScan,
    relax.transform.LegalizeOps,
    relax.transform.RewriteDataflowReshape,
    relax.transform.ToNonDataflow,
    relax.transform.RemovePurityChecking,
    relax.transform.CallTIRRewrite,
    relax.transform.StaticPlanBlockMemory,
    relax.transform.LowerAllocTensor,
)


def _with_storage(module: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    """The module with every intermediate result at its place in a storage."""
    with target:
        return tvm.transform.Sequential([step() for step in _UP_TO_STORAGE])(module)


class _Walk:
    """One walk over `main`: kernels in the order of their calls, the bytes that each moves, and the life of buffers."""

    def __init__(self, module: tvm.IRModule) -> None:
        self.kernels: list[str] = []
        self.moved: list[int] = []
        self._storages: list[int] = []
        self._sizes: dict[relax.Var, int] = {}
        self._first: dict[relax.Var, int] = {}
        self._last: dict[relax.Var, int] = {}
        self._definition: dict[relax.Var, relax.Expr] = {}
        function = module["main"]
        for binding in bindings_of(function):
            self._bind(binding.var, binding.value)
        for result in self._buffers(function.body.body):
            self._last[result] = len(self.kernels) - 1

    def _bind(self, var: relax.Var, value: relax.Expr) -> None:
        name = op_name(value)
        if name == "relax.memory.alloc_storage":
            self._storages.append(math.prod(int(each) for each in value.args[0].values))
        elif name == "relax.memory.alloc_tensor":
            self._sizes[var] = _bytes(var)
        elif isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.GlobalVar):
            self._call(value)
        else:
            self._definition[var] = value

    def _call(self, call: relax.Call) -> None:
        place = len(self.kernels)
        self.kernels.append(call.op.name_hint)
        self.moved.append(sum(_bytes(argument) for argument in dict.fromkeys(call.args)))
        for buffer in self._buffers(call):
            self._first.setdefault(buffer, place)
            self._last[buffer] = place

    def _buffers(self, expr: relax.Expr) -> Iterator[relax.Var]:
        """The buffers that an expression reads, through views and tuples."""
        if isinstance(expr, relax.Var):
            if expr in self._sizes:
                yield expr
            elif expr in self._definition:
                yield from self._buffers(self._definition[expr])
        elif isinstance(expr, relax.TupleGetItem):
            whole: relax.Expr = expr.tuple_value
            while isinstance(whole, relax.Var) and whole in self._definition:
                whole = self._definition[whole]
            yield from self._buffers(whole.fields[expr.index] if isinstance(whole, relax.Tuple) else whole)
        else:
            for operand in [*getattr(expr, "fields", ()), *getattr(expr, "args", ())]:
                yield from self._buffers(operand)

    def plan(self) -> MemoryPlan:
        """The buffers that a kernel uses."""
        buffers = [
            Buffer(bytes=self._sizes[var], first=first, last=self._last[var]) for var, first in self._first.items()
        ]
        places = range(len(self.kernels))
        in_use = [sum(each.bytes for each in buffers if each.first <= place <= each.last) for place in places]
        most = max(in_use, default=0)
        return MemoryPlan(calls=self.kernels, buffers=buffers, planned_bytes=sum(self._storages), peak_bytes=most)


def _bytes(expr: relax.Expr) -> int:
    """Of a tensor of a static shape; 0 of anything else."""
    if not isinstance(expr.ty, relax.TensorType) or expr.ty.shape is None:
        return 0
    return math.prod(int(each) for each in expr.ty.shape.values) * tvm.DataType(expr.ty.dtype).itemsize
