"""Registration of our operators with Relax, from Python: a name, its arguments, a type rule.

``bnn.bconv2d``      bool[N,C,H,W], bool[O,C/g,KH,KW] -> int32[N,O,H',W']
                     sum over the taps of s(x) * s(w) with s(True) = +1, s(False) = -1; a padded tap
                     contributes pad_value * s(w). This is the algebra of xor-popcount: K - 2*popc(x ^ w).
``bnn.bmatmul``      bool[B,K,H,W], bool[B,K,1,N] -> int32[B,N,H,W]
                     sum over k of s(x[b,k,h,w]) * s(y[b,k,0,n]): a 1x1 convolution whose weights are activations.
``bnn.weighted_mean`` int32[B,N,H,W], float32[B,D,1,N], float32[K+1] -> float32[B,D,H,W]
                     mean over n of the values y[b,d,0,n], weighted by table[(K - s[b,n,h,w]) / 2]: softmax of scores
                     that are sums of K signs, times the values. Weights are finite and positive.
``bnn.interval``     int32[...], int32 lowest, uint32 span -> bool[...]
                     lowest <= x <= lowest + span in arithmetic modulo 2**32, so that one comparison is a
                     threshold, an interval, or (where it wraps around) the complement of one.
``bnn.affine``       numeric[...], float32 scale, float32 shift -> float32[...]
                     fma(float32(x), scale, shift), rounded once; scale and shift broadcast.
``bnn.quantize``     float32[...], float32 inverse -> int8[...]
                     round(x * inverse), half to even, limited to +-127; see `arithmetic.quantize`.
``bnn.bfloat16``     float32[...] -> float32[...]
                     rounded to the nearest bfloat16. It tells a convolution that reads it that its sum may be taken
                     in another order, as suits a unit that multiplies such numbers.
``bnn.tfloat32``     float32[...] -> float32[...]
                     the same of numbers of 11 significant bits, NVIDIA's tf32.
``bnn.border_bias``  any[O,CY,CX] -> any[1,O,H,W]
                     table[o, row_class[y], column_class[x]]: a constant per filter and border class.
"""

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Op
from tvm.ir import _ffi_api as ir_ffi

from tvm_bnn.ops.attrs import BConv2DAttrs


def _static(shape) -> list[int]:
    return [int(extent) for extent in shape]


def _bconv2d_type(call: relax.Call, _context) -> relax.TensorType:
    data, weight = (argument.ty for argument in call.args)
    batch, channels, height, width = _static(data.shape)
    filters, per_group, *kernel = _static(weight.shape)
    attrs = BConv2DAttrs.from_call(call.attrs)
    if data.dtype != "bool" or weight.dtype != "bool":
        raise TypeError(f"bconv2d takes bool tensors, got {data.dtype} and {weight.dtype}")
    if channels != per_group * attrs.groups or filters % attrs.groups:
        raise ValueError(f"bconv2d: {channels} channels, weight {_static(weight.shape)}, {attrs.groups} groups")
    rows, columns = attrs.output_size(height, width, (kernel[0], kernel[1]))
    return relax.TensorType((batch, filters, rows, columns), "int32")


def _bmatmul_type(call: relax.Call, _context) -> relax.TensorType:
    left, right = (argument.ty for argument in call.args)
    (batch, length, *plane), other = _static(left.shape), _static(right.shape)
    if left.dtype != "bool" or right.dtype != "bool":
        raise TypeError(f"bmatmul takes bool tensors, got {left.dtype} and {right.dtype}")
    if other[:3] != [batch, length, 1] or len(plane) != 2:
        raise ValueError(f"bmatmul: operands {_static(left.shape)} and {other}")
    return relax.TensorType((batch, other[3], *plane), "int32")


def _weighted_mean_type(call: relax.Call, _context) -> relax.TensorType:
    scores, values, table = (argument.ty for argument in call.args)
    (batch, keys, *plane), other = _static(scores.shape), _static(values.shape)
    dtypes = [str(each.dtype) for each in (scores, values, table)]
    if dtypes != ["int32", "float32", "float32"]:
        raise TypeError(f"weighted_mean takes int32 scores, float32 values and weights, got {dtypes}")
    if [other[0], *other[2:]] != [batch, 1, keys] or len(plane) != 2 or len(table.shape) != 1:
        raise ValueError(f"weighted_mean: {_static(scores.shape)}, {other} and {_static(table.shape)}")
    return relax.TensorType((batch, other[1], *plane), "float32")


def _interval_type(call: relax.Call, _context) -> relax.TensorType:
    return relax.TensorType(call.args[0].ty.shape, "bool")


def _float_type(call: relax.Call, _context) -> relax.TensorType:
    return relax.TensorType(call.args[0].ty.shape, "float32")


def _quantize_type(call: relax.Call, _context) -> relax.TensorType:
    return relax.TensorType(call.args[0].ty.shape, "int8")


def _border_bias_type(call: relax.Call, _context) -> relax.TensorType:
    filters = int(call.args[0].ty.shape[0])
    shape = (1, filters, len(call.attrs["row_class"]), len(call.attrs["column_class"]))
    return relax.TensorType(shape, call.args[0].ty.dtype)


_OPERATORS = {
    "bnn.bconv2d": (("data", "weight"), _bconv2d_type),
    "bnn.bmatmul": (("left", "right"), _bmatmul_type),
    "bnn.weighted_mean": (("scores", "values", "table"), _weighted_mean_type),
    "bnn.interval": (("data", "lowest", "span"), _interval_type),
    "bnn.affine": (("data", "scale", "shift"), _float_type),
    "bnn.quantize": (("data", "inverse"), _quantize_type),
    "bnn.bfloat16": (("data",), _float_type),
    "bnn.tfloat32": (("data",), _float_type),
    "bnn.border_bias": (("table",), _border_bias_type),
}


def register() -> None:
    """Make the operators known to Relax; doing it again changes nothing."""
    for name, (arguments, infer_type) in _OPERATORS.items():
        if name in Op.list_op_names():
            continue
        ir_ffi.RegisterOp(name, "tvm_bnn")
        op = Op.get(name)
        for argument in arguments:
            op.add_argument(argument, "Tensor", "")
        ir_ffi.OpSetNumInputs(op, len(arguments))
        op.set_attr("FPurity", True)
        op.set_attr("FInferType", infer_type)


def is_op(expr, name: str) -> bool:
    """Whether expr is a call of the named operator."""
    return isinstance(expr, relax.Call) and isinstance(expr.op, Op) and expr.op.name == name


def bconv2d(data: relax.Expr, weight: relax.Expr, attrs: BConv2DAttrs, span=None) -> relax.Call:
    """Call of ``bnn.bconv2d``; span carries the module path of the layer."""
    return relax.Call(
        Op.get("bnn.bconv2d"), [data, weight], tvm.ir.make_node("ir.DictAttrs", **attrs.as_dict()), span=span
    )


def bmatmul(left: relax.Expr, right: relax.Expr, span=None) -> relax.Call:
    """Call of ``bnn.bmatmul``."""
    return relax.Call(Op.get("bnn.bmatmul"), [left, right], tvm.ir.make_node("ir.DictAttrs"), span=span)


def weighted_mean(scores: relax.Expr, values: relax.Expr, table: relax.Expr, span=None) -> relax.Call:
    """Call of ``bnn.weighted_mean``."""
    attrs = tvm.ir.make_node("ir.DictAttrs")
    return relax.Call(Op.get("bnn.weighted_mean"), [scores, values, table], attrs, span=span)


def interval(data: relax.Expr, lowest: relax.Expr, width: relax.Expr) -> relax.Call:
    """Call of ``bnn.interval``: lowest int32 and width uint32 broadcast against data."""
    return relax.Call(Op.get("bnn.interval"), [data, lowest, width], tvm.ir.make_node("ir.DictAttrs"))


def affine(data: relax.Expr, scale: relax.Expr, shift: relax.Expr) -> relax.Call:
    """Call of ``bnn.affine``: fma(float32(data), scale, shift)."""
    return relax.Call(Op.get("bnn.affine"), [data, scale, shift], tvm.ir.make_node("ir.DictAttrs"))


def border_bias(table: relax.Expr, row_class: list[int], column_class: list[int]) -> relax.Call:
    """Call of ``bnn.border_bias``; the class lists have one entry per output row and column."""
    attrs = tvm.ir.make_node("ir.DictAttrs", row_class=list(row_class), column_class=list(column_class))
    return relax.Call(Op.get("bnn.border_bias"), [table], attrs)


def quantize(data: relax.Expr, inverse: float) -> relax.Call:
    """Call of ``bnn.quantize``: int8 of data * inverse."""
    number = relax.const(np.float32(inverse))
    return relax.Call(Op.get("bnn.quantize"), [data, number], tvm.ir.make_node("ir.DictAttrs"))


def bfloat16(data: relax.Expr) -> relax.Call:
    """Call of ``bnn.bfloat16``."""
    return relax.Call(Op.get("bnn.bfloat16"), [data], tvm.ir.make_node("ir.DictAttrs"))


def tfloat32(data: relax.Expr) -> relax.Call:
    """Call of ``bnn.tfloat32``."""
    return relax.Call(Op.get("bnn.tfloat32"), [data], tvm.ir.make_node("ir.DictAttrs"))
