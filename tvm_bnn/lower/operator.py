"""Scalar operators of our own that vectorise like any other; LLVM and nvcc see something simpler in their place."""

from collections.abc import Callable

from tvm import tirx
from tvm.ir import Op
from tvm.ir import _ffi_api as ir_ffi


def register(name: str, inputs: int, lowering: Callable) -> None:
    """Register a pure operator once; lowering : call, possibly on vectors -> the expression for LLVM and nvcc."""
    if name in Op.list_op_names():
        return
    ir_ffi.RegisterOp(name, "tvm_bnn")
    operator = Op.get(name)
    ir_ffi.OpSetNumInputs(operator, inputs)
    operator.set_attr("TCallEffectKind", 1)  # pure
    operator.set_attr("TVectorizable", True)
    operator.set_attr("TScriptPrinterName", name.removeprefix("bnn."))
    for target in ("llvm", "cuda"):
        tirx.register_intrin_lowering(name, target=target, f=lowering)
