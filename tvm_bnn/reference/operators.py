"""The table of operators that the reference evaluator knows, and the evaluation of one call."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvm_bnn import arithmetic
from tvm_bnn.errors import UnsupportedError
from tvm_bnn.reference import binary, convolution, elementwise, normalisation, pooling, reduction, resize, shape
from tvm_bnn.reference.elementwise import Operator, float32_only, plain

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "bnn.bconv2d": binary.bconv2d,
        "bnn.bmatmul": binary.bmatmul,
        "bnn.weighted_mean": binary.weighted_mean,
        "bnn.interval": binary.interval,
        "bnn.affine": binary.affine,
        "bnn.quantize": plain(arithmetic.quantize),
        "bnn.bfloat16": plain(arithmetic.bfloat16),
        "bnn.tfloat32": plain(arithmetic.tfloat32),
        "bnn.border_bias": binary.border_bias,
        # sums of products
        "relax.nn.conv1d": convolution.conv1d,
        "relax.nn.conv2d": convolution.conv2d,
        "relax.nn.conv2d_transpose": convolution.conv2d_transpose,
        "relax.matmul": convolution.matmul,
        "relax.ewise_fma": plain(arithmetic.fma32),
        # pooling and resizing
        "relax.nn.max_pool2d": pooling.max_pool2d,
        "relax.nn.avg_pool2d": pooling.avg_pool2d,
        "relax.nn.adaptive_avg_pool2d": pooling.adaptive_avg_pool2d,
        "relax.image.resize2d": resize.resize2d,
        # normalisation
        "relax.nn.batch_norm": normalisation.batch_norm,
        "relax.nn.layer_norm": normalisation.layer_norm,
        "relax.nn.group_norm": normalisation.group_norm,
        "relax.nn.instance_norm": normalisation.instance_norm,
        "relax.nn.rms_norm": normalisation.rms_norm,
        "relax.nn.softmax": normalisation.softmax,
        "relax.nn.log_softmax": normalisation.log_softmax,
        "relax.nn.dropout": normalisation.dropout,
        # activations
        "relax.nn.relu": plain(elementwise.relu),
        "relax.nn.leakyrelu": elementwise.leaky_relu,
        "relax.nn.prelu": elementwise.prelu,
        "relax.nn.silu": plain(elementwise.silu),
        "relax.nn.gelu": plain(elementwise.gelu),
        "relax.nn.gelu_tanh": plain(elementwise.gelu_tanh),
        "relax.nn.softplus": elementwise.softplus,
        "relax.sigmoid": float32_only(arithmetic.sigmoid),
        "relax.tanh": float32_only(arithmetic.tanh),
        "relax.erf": float32_only(arithmetic.erf),
        "relax.exp": float32_only(arithmetic.exp),
        "relax.log": float32_only(arithmetic.log),
        # arithmetic
        "relax.add": plain(np.add),
        "relax.subtract": plain(np.subtract),
        "relax.multiply": plain(np.multiply),
        "relax.divide": plain(elementwise.divide),
        "relax.floor_divide": plain(np.floor_divide),
        "relax.floor_mod": plain(np.mod),
        "relax.mod": plain(np.fmod),
        "relax.power": plain(elementwise.power),
        "relax.maximum": plain(elementwise.maximum),
        "relax.minimum": plain(elementwise.minimum),
        "relax.clip": plain(elementwise.clip),
        "relax.sign": plain(elementwise.sign),
        "relax.abs": plain(np.abs),
        "relax.negative": plain(np.negative),
        "relax.square": plain(np.square),
        "relax.sqrt": plain(np.sqrt),
        "relax.rsqrt": plain(elementwise.rsqrt),
        "relax.round": plain(np.rint),
        "relax.floor": plain(np.floor),
        "relax.ceil": plain(np.ceil),
        "relax.trunc": plain(np.trunc),
        "relax.astype": elementwise.astype,
        # truth values
        "relax.equal": plain(np.equal),
        "relax.not_equal": plain(np.not_equal),
        "relax.less": plain(np.less),
        "relax.less_equal": plain(np.less_equal),
        "relax.greater": plain(np.greater),
        "relax.greater_equal": plain(np.greater_equal),
        "relax.isnan": plain(np.isnan),
        "relax.isinf": plain(np.isinf),
        "relax.isfinite": plain(np.isfinite),
        "relax.where": plain(np.where),
        "relax.logical_and": plain(np.logical_and),
        "relax.logical_or": plain(np.logical_or),
        "relax.logical_xor": plain(np.logical_xor),
        "relax.logical_not": plain(np.logical_not),
        "relax.bitwise_and": plain(np.bitwise_and),
        "relax.bitwise_or": plain(np.bitwise_or),
        "relax.bitwise_xor": plain(np.bitwise_xor),
        "relax.bitwise_not": plain(np.invert),
        "relax.left_shift": plain(np.left_shift),
        "relax.right_shift": plain(np.right_shift),
        # reductions
        "relax.sum": reduction.total,
        "relax.mean": reduction.mean,
        "relax.variance": reduction.variance,
        "relax.std": reduction.deviation,
        "relax.prod": reduction.product,
        "relax.max": reduction.greatest,
        "relax.min": reduction.least,
        "relax.argmax": reduction.argmax,
        "relax.argmin": reduction.argmin,
        "relax.topk": reduction.topk,
        # shape
        "relax.reshape": shape.reshape,
        "relax.permute_dims": shape.permute_dims,
        "relax.expand_dims": shape.expand_dims,
        "relax.squeeze": shape.squeeze,
        "relax.flatten": shape.flatten,
        "relax.broadcast_to": shape.broadcast_to,
        "relax.concat": shape.concat,
        "relax.stack": shape.stack,
        "relax.split": shape.split,
        "relax.strided_slice": shape.strided_slice,
        "relax.take": shape.take,
        "relax.index_tensor": shape.index_tensor,
        "relax.gather_elements": shape.gather_elements,
        "relax.tile": shape.tile,
        "relax.repeat": shape.repeat,
        "relax.flip": shape.flip,
        "relax.nn.pad": shape.pad,
        "relax.nn.pixel_shuffle": shape.pixel_shuffle,
        "relax.zeros_like": shape.zeros_like,
        "relax.ones_like": shape.ones_like,
        "relax.full_like": shape.full_like,
        "relax.zeros": shape.zeros,
        "relax.ones": shape.ones,
        "relax.full": shape.full,
        "relax.arange": shape.arange,
    }
)


def evaluate_call(call: relax.Call, args: Sequence[Any]) -> Any:
    """The value of one operator call.

    args : one value an argument of the call: arrays, tuples of values, and for shapes and scalars either plain
        Python numbers or the Relax literals themselves.

    Returns an array, or a tuple of arrays for operators with several results.

    Raises UnsupportedError, naming the operator and the place it came from, where there is no code for it.
    """
    name = call.op.name if isinstance(call.op, tvm.ir.Op) else str(call.op)
    operator = OPERATORS.get(name)
    if operator is None:
        raise UnsupportedError(
            f"the reference evaluator has no code for {name}{_place(call)}; it knows {len(OPERATORS)} operators "
            "(tvm_bnn.reference.OPERATORS): rewrite the module in terms of those"
        )
    with np.errstate(all="ignore"):
        return _arrays(operator(call, [plain_value(argument) for argument in args]))


def _place(call: relax.Call) -> str:
    return f" (from {call.span.source_name.name})" if isinstance(call.span, tvm.ir.Span) else ""


def _arrays(value: Any) -> Any:
    return tuple(_arrays(field) for field in value) if isinstance(value, tuple) else np.asarray(value)


def plain_value(value: Any) -> Any:
    """A Relax literal (constant, shape, scalar, tuple of them) as array, tuple or number; others unchanged."""
    if isinstance(value, tvm.ir.GenericConst):
        return value.value.numpy()
    if isinstance(value, relax.ShapeExpr):
        return tuple(int(extent) for extent in value.values)
    if isinstance(value, relax.Tuple):
        return tuple(plain_value(field) for field in value.fields)
    if isinstance(value, tuple | list):
        return tuple(plain_value(field) for field in value)
    if isinstance(value, tvm.tirx.IntImm | tvm.tirx.FloatImm):
        return value.value
    return value
