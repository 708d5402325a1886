"""Matrix products: linear layers and products of two activations; the sum runs over k in order."""

from tvm import relax, te, tirx

from tvm_bnn.lower.anchors import Anchor
from tvm_bnn.lower.anchors.convolution import bit_sums
from tvm_bnn.lower.anchors.reduction import last_channels
from tvm_bnn.lower.index import broadcast_index
from tvm_bnn.lower.layout import padded_channels, words
from tvm_bnn.lower.reader import Reader
from tvm_bnn.lower.tally import Table, different_bits_tally
from tvm_bnn.lower.words import word
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


def bmatmul(reader: Reader, call: relax.Call, target) -> Anchor:
    """Product of two activations' bits: a 1x1 convolution whose weights are the other operand.

    Stage ``filters`` has the words of the other operand with its columns last, as vectors read them.
    """
    left, right = call.args
    batch, length, height, width = shape_of(left)
    columns = shape_of(right)[3]
    lanes = min(target.lanes32, padded_channels(columns))

    def column_words(b, block, k, lane):
        return word(reader, right, (b, tirx.const(0, "int32"), tirx.min(block * lanes + lane, columns - 1)), k)

    blocks = padded_channels(columns) // lanes
    filters = reader.compute((batch, blocks, words(length), lanes), column_words, "filters")
    acc = bit_sums(
        reader,
        (batch, columns, height, width),
        (1, 1, words(length)),
        lambda n, y, x, ky, kx, group, k: word(reader, left, (n, y, x), k),
        lambda n, o, ky, kx, k: filters(n, o // lanes, k, o % lanes),
        target,
    )

    tally = different_bits_tally(acc, Table.of_number(length), length)
    return Anchor(lambda index: tally.sum(reader.table, index), "conv", tally=tally)
