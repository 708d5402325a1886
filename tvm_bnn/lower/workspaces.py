"""Memory between the launches of one kernel on a GPU, as results of the kernel that nobody reads.

A stage that a kernel stores for a later launch of its own needs memory. TVM would ask its runtime for it at every call,
which takes it from a pool of the thread: pages, of which one is freed and made anew where a kernel needs a larger one.
A CUDA graph has the addresses of the run that it was captured from, and would go on writing to a page that is gone. As
a result, the memory is planned with that of all others (StaticPlanBlockMemory), shared with them, and kept as long as
the network.
"""

import tvm
from tvm import relax, tirx

from tvm_bnn.lower.statements import block_of
from tvm_bnn.relay_passes.rewriter import op_name

_CALLS = ("relax.call_tir", "relax.call_tir_inplace")


@tvm.transform.module_pass(opt_level=0, name="PlanWorkspaces")
class PlanWorkspaces:
    """``planned`` of a module whose kernels are scheduled for a GPU."""

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Plan the workspaces of all kernels."""
        return planned(module)


def planned(module: tvm.IRModule) -> tvm.IRModule:
    """A module whose kernels get the memory that they store stages in from their callers."""
    result = module.clone()
    widened: dict[tvm.ir.GlobalVar, _Widened] = {}
    for var, func in module.functions.items():
        if isinstance(func, tirx.PrimFunc) and (made := _widened(var, func)) is not None:
            widened[var] = made
            del result[var]
            result[made.var] = made.func
    for var, func in module.functions.items():
        if isinstance(func, relax.Function):
            result.update_func(result.get_global_var(var.name_hint), _called(func, widened))
    return result


class _Widened:
    """A kernel with further results, under a variable that has its type."""

    def __init__(self, name: str, func: tirx.PrimFunc, workspaces: list[relax.TensorType]) -> None:
        self.func, self.workspaces = func, workspaces
        self.var = tvm.ir.GlobalVar(name)
        relax.expr._update_type(self.var, func.ty)


def _widened(var: tvm.ir.GlobalVar, func: tirx.PrimFunc) -> _Widened | None:
    """None for a kernel that stores no stages."""
    root = func.body
    if not isinstance(root, tvm.s_tir.SBlockRealize):
        return None
    stored = [buffer for buffer in root.block.alloc_buffers if buffer.scope() == "global"]
    if not stored:
        return None
    kept = [buffer for buffer in root.block.alloc_buffers if buffer.scope() != "global"]
    body = block_of(root, root.block.body, root.block.init, kept)
    made = tirx.PrimFunc([*func.params, *stored], body, func.ret_type, func.attrs, func.span)
    shapes = [relax.TensorType([int(extent) for extent in buffer.shape], buffer.dtype) for buffer in stored]
    return _Widened(var.name_hint, made, shapes)


def _called(function: relax.Function, widened: dict[tvm.ir.GlobalVar, _Widened]) -> relax.Function:
    """A function of kernel calls, with memory for the workspaces of each."""
    blocks = []
    for block in function.body.blocks:
        bindings: list[relax.Binding] = []
        for binding in block.bindings:
            value = binding.value
            if op_name(value) in _CALLS and value.args[0] in widened:
                bindings += _with_workspaces(binding, widened[value.args[0]])
            else:
                bindings.append(binding)
        blocks.append(type(block)(bindings))
    body = relax.SeqExpr(blocks, function.body.body)
    return relax.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs, function.span)


def _with_workspaces(binding: relax.VarBinding, kernel: _Widened) -> list[relax.Binding]:
    """A call that makes the workspaces as well, and the results alone."""
    call = binding.value
    (types,) = call.ty_args
    single = not isinstance(types, relax.TupleType)
    out = [types] if single else list(types.fields)
    all_out = [*out, *kernel.workspaces]
    if op_name(call) == "relax.call_tir_inplace":
        indices = [int(index) for index in call.attrs.inplace_indices] + [-1] * len(kernel.workspaces)
        made = relax.op.call_tir_inplace(kernel.var, call.args[1], indices, all_out)
    else:
        made = relax.call_tir(kernel.var, call.args[1], all_out)
    whole = relax.DataflowVar(f"{binding.var.name}_stored", relax.TupleType(all_out))
    results = [relax.TupleGetItem(whole, index) for index in range(len(out))]
    value = results[0] if single else relax.Tuple(results)
    return [relax.VarBinding(whole, made), relax.VarBinding(binding.var, value)]
