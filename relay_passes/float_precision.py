"""Round float convolutions and linear layers: operands of 8 bits, of bfloat16 or of tf32.

With constant weights w and an activation x, of which s = ``most / 127`` is the unit of a tensor and ``t[o]`` that of a
filter, ``t[o] = max|w[o]| / 127``:

int8   ``conv(x, w)  ->  affine(conv(quantize(x, 1/s), round(w / t)), s * t, 0)``
       The inner sum is an int32 and exact in any order, so the result is the same on every target. A padded 0 is the
       integer 0. FoldAffine then merges the factor into what follows.
bf16   ``conv(x, w)  ->  conv(bfloat16(x), bfloat16(w))``
       The products are exact in float32; the reference takes their sum in the order of every float convolution, a unit
       for such products in its own. With n products and u = 2**-24, AMX's and the reference's are within
       n * u * sum|x * w| (to first order) of the true sum, plus n times the smallest normal number where the unit
       flushes smaller ones to 0.
tf32   the same with 11 significant bits instead of 8, as NVIDIA's tensor cores have them.

``matmul(x[..., K], w[K, M])`` is a 1x1 convolution over a row of pixels and becomes one.

Declines, and leaves the reason in the layer's record, where the weights are no constant, where channels come in groups,
and for operators that have no such kernel (transposed, one- and three-dimensional convolutions).
"""

from collections.abc import Mapping
from math import prod

import numpy as np
import tvm
from tvm import relax

from tvm_bnn import ops
from tvm_bnn.arithmetic import QUANTIZED, bfloat16, tfloat32
from tvm_bnn.ops import BConv2DAttrs
from tvm_bnn.relay_passes.decisions import Decisions, Layer
from tvm_bnn.relay_passes.fold_affine import FoldAffine
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.rewriter import DataflowRewriter, bindings_of, dtype_of, op_name, run_rewriter, shape_of

#: What float layers may compute in.
PRECISIONS = ("fp32", "tf32", "bf16", "int8")
#: Those of floats: what rounds an activation, and what rounds weights.
_ROUNDING = {"bf16": (ops.bfloat16, bfloat16), "tf32": (ops.tfloat32, tfloat32)}
_NO_KERNEL = "there are fp32 kernels only for this operator"


def why_fp32(call: relax.Call) -> str:
    """Why a layer's call has to stay fp32; "" where it can be rounded."""
    if op_name(call) not in ("relax.nn.conv2d", "relax.matmul") or dtype_of(call) != "float32":
        return _NO_KERNEL
    data, weight = call.args
    if not is_constant(weight) or is_constant(data):
        return "its weights are not constant"
    if not np.isfinite(value_of(weight)).all():
        return "its weights are not finite"
    if op_name(call) == "relax.matmul":
        return "" if len(shape_of(weight)) == 2 <= len(shape_of(data)) else _NO_KERNEL
    return "" if int(call.attrs.groups) == 1 else "its channels are in groups"


def activations(module: tvm.IRModule) -> dict[str, relax.Var]:
    """What each layer that can be rounded reads, by the name of the layer's value."""
    return {
        binding.var.name: binding.value.args[0]
        for binding in bindings_of(module["main"])
        if isinstance(binding.value, relax.Call) and not why_fp32(binding.value)
    }


def reduce_precision(
    module: tvm.IRModule, decisions: Decisions, precision: str, most: Mapping[str, float]
) -> tvm.IRModule:
    """Round the float layers of an optimized module; their records say what became of each.

    precision : "tf32", "bf16" or "int8". most : for int8, the magnitude that becomes 127 by the name of each of
    `activations`.
    """
    run = [
        FloatPrecision(decisions, precision, most),
        relax.transform.EliminateCommonSubexpr(),
        FoldAffine(),
        relax.transform.DeadCodeElimination(),
    ]
    return tvm.ir.transform.Sequential(run)(module)


class _Rounder(DataflowRewriter):
    def __init__(self, decisions: Decisions, precision: str, most: Mapping[str, float]) -> None:
        super().__init__()
        self.precision, self.most = precision, most
        self.layers = {layer.value: layer for layer in decisions.layers if layer.decision == "float"}
        for layer in self.layers.values():
            layer.stays_fp32 = _NO_KERNEL

    def rewrite(self, call: relax.Call, name: str) -> relax.Expr | None:
        layer = self.layers.get(name)
        reason = why_fp32(call)
        if layer is not None:
            layer.stays_fp32 = reason
        if reason:
            return None
        data, weight = call.args[0], value_of(call.args[1])
        if op_name(call) == "relax.nn.conv2d":
            return self._rounded(data, weight, BConv2DAttrs.from_conv2d(call.attrs), call.span, name, layer)
        *leading, channels = shape_of(data)
        pixels = prod(leading)
        row = self.emit(relax.op.permute_dims(self.emit(relax.op.reshape(data, (1, pixels, channels))), [0, 2, 1]))
        row = self.emit(relax.op.reshape(row, (1, channels, 1, pixels)))
        made = self.emit(self._rounded(row, weight.T[:, :, None, None], BConv2DAttrs(), call.span, name, layer))
        made = self.emit(relax.op.permute_dims(self.emit(relax.op.reshape(made, (1, -1, pixels))), [0, 2, 1]))
        return relax.op.reshape(made, shape_of(call))

    def _rounded(
        self, data: relax.Var, weight: np.ndarray, geometry: BConv2DAttrs, span, name: str, layer: Layer | None
    ) -> relax.Expr:
        """The convolution in fewer bits; the layer's value becomes its sum."""
        if self.precision in _ROUNDING:
            scale = None
            rounds, round_weight = _ROUNDING[self.precision]
            total = _conv2d(self.emit(rounds(data)), round_weight(weight), geometry, "float32", span)
        else:
            inverse = np.float32(QUANTIZED / (self.most[name] or QUANTIZED))
            integers, units = quantized_filters(weight)
            scale = np.float32(units / np.float64(inverse)).reshape(1, -1, 1, 1)
            total = _conv2d(self.emit(ops.quantize(data, float(inverse))), integers, geometry, "int32", span)
        total = self.emit(total)
        if layer is not None:
            layer.precision, layer.value = self.precision, total.name
        return total if scale is None else ops.affine(total, relax.const(scale), relax.const(np.zeros_like(scale)))


def quantized_filters(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Filters [O, ...] as int8, and the unit of each, float64 [O]; a filter of zeros has the unit 1."""
    most = np.abs(weight).max(axis=tuple(range(1, weight.ndim))).astype(np.float64)
    units = np.where(most > 0, most / QUANTIZED, 1.0)
    return np.rint(weight / units.reshape(-1, *(1,) * (weight.ndim - 1))).astype(np.int8), units


def _conv2d(data: relax.Expr, weight: np.ndarray, geometry: BConv2DAttrs, out_dtype: str, span) -> relax.Call:
    held = relax.const(np.ascontiguousarray(weight))
    shifts = {"strides": geometry.strides, "padding": geometry.padding, "dilation": geometry.dilation}
    call = relax.op.nn.conv2d(data, held, **shifts, out_dtype=out_dtype)
    return relax.Call(call.op, call.args, call.attrs, call.ty_args, span)


@tvm.transform.module_pass(opt_level=0, name="FloatPrecision")
class FloatPrecision:
    """Round the operands of float layers; arguments as of `reduce_precision`."""

    def __init__(self, decisions: Decisions, precision: str, most: Mapping[str, float]) -> None:
        self.decisions, self.precision, self.most = decisions, precision, most

    def transform_module(self, module: tvm.IRModule, _context) -> tvm.IRModule:
        """Rewrite ``main``."""
        return run_rewriter(lambda: _Rounder(self.decisions, self.precision, self.most), module)
