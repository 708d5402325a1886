"""Matrix products: linear layers and products of two activations; the sum runs over k in order."""

from tvm import relax, te

from tvm_bnn.lower.anchors import Anchor
from tvm_bnn.lower.anchors.reduction import last_channels
from tvm_bnn.lower.index import broadcast_index
from tvm_bnn.lower.reader import Reader
from tvm_bnn.relay_passes.rewriter import shape_of


def matmul(reader: Reader, call: relax.Call, target) -> Anchor:
    """``[..., M, K] x [..., K, N]`` with numpy's broadcasting of the leading axes (no vectors)."""
    left, right = call.args
    left_shape, right_shape = shape_of(left), shape_of(right)
    k = reader.reduce_axis(left_shape[-1], "k")

    def accumulate(*index):
        rows = () if len(left_shape) == 1 else (index[-2] if len(right_shape) > 1 else index[-1],)
        columns = () if len(right_shape) == 1 else (index[-1],)
        batch = index[: len(index) - len(rows) - len(columns)]
        left_index = (*broadcast_index(batch, left_shape[:-2]), *rows, k.var)
        right_index = (*broadcast_index(batch, right_shape[:-2]), k.var, *columns)
        return te.sum(reader.element(left, left_index) * reader.element(right, right_index), axis=k)

    acc = last_channels(reader, shape_of(call), accumulate, "acc")
    return Anchor(lambda i: acc(*i), "reduce")
