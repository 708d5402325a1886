"""How each anchor operator is written in tensor expressions, one family a file.

A builder takes (reader, call, target) and returns an ``Anchor``: the element function of the result and the family of
schedules that serves it. It names its stages so that schedules find them: ``pad`` (input with its border), ``acc``
(the accumulators), and others local to the family.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tvm_bnn.lower.index import Scalar
from tvm_bnn.lower.tally import Tally
from tvm_bnn.relay_passes.fold_constants import is_constant
from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.rewriter import op_name


@dataclass(frozen=True)
class Anchor:
    """What an anchor computes.

    element : logical index -> value. family : of schedules ("conv", "reduce", "argmax_resize", ...).
    word : (pixel, position) -> word of bits, where the anchor computes whole words.
    tally : what the anchor counts, where it is a sum of bits.
    """

    element: Callable[[tuple], Scalar]
    family: str
    word: Callable[[tuple, Scalar], Scalar] | None = None
    tally: Tally | None = None


def builder_of(call) -> Callable | None:
    """The builder of an anchor operator; None where there is none (the operator then runs as TVM lowers it)."""
    from tvm_bnn.lower.anchors import convolution, pooling, product, reduction, resize, upsampled_conv

    if op_name(call) == "relax.image.resize2d" and not is_nearest(call):
        return resize.resize2d
    if op_name(call) in ("relax.nn.conv2d", "relax.nn.conv2d_transpose") and not is_constant(call.args[1]):
        return None  # weights are blocked at compile time
    table = {
        "bnn.bconv2d": upsampled_conv.bconv2d,
        "bnn.bmatmul": product.bmatmul,
        "bnn.weighted_mean": product.weighted_mean,
        "relax.nn.conv2d": convolution.conv2d,
        "relax.nn.conv2d_transpose": convolution.conv2d_transpose,
        "relax.matmul": product.matmul,
        "relax.nn.softmax": reduction.softmax,
        "relax.nn.max_pool2d": pooling.max_pool2d,
        "relax.nn.avg_pool2d": pooling.avg_pool2d,
        "relax.nn.adaptive_avg_pool2d": pooling.adaptive_avg_pool2d,
        "relax.mean": reduction.reduce,
        "relax.sum": reduction.reduce,
        "relax.max": reduction.reduce,
        "relax.min": reduction.reduce,
        "relax.argmax": reduction.argmax,
        "relax.argmin": reduction.argmin,
    }
    return table.get(op_name(call))
