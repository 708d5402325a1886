"""The operators that the passes add to Relax. Logical layout is PyTorch's (NCHW); bits are ``bool`` tensors.

Packing and NHWC are decisions of the lowering, so no pass ever sees a word or a blocked weight.
"""

from tvm_bnn.ops.attrs import BConv2DAttrs
from tvm_bnn.ops.relax_ops import (
    affine,
    bconv2d,
    bfloat16,
    bmatmul,
    border_bias,
    interval,
    is_op,
    quantize,
    register,
    tfloat32,
    weighted_mean,
)

register()

__all__ = [
    "BConv2DAttrs",
    "affine",
    "bconv2d",
    "bfloat16",
    "bmatmul",
    "border_bias",
    "interval",
    "is_op",
    "quantize",
    "tfloat32",
    "weighted_mean",
]
