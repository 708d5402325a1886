"""Binary convolutions for tensor cores: an implicit product of matrices of bits.

Rows are pixels of the result, columns filters, and the depth is the words of a window, tap after tap:

    window[m, k] = word k of what pixel m reads, 0 behind the last one
    acc[m, o]    = sum over k of popcount(window[m, k] operation weight[o, k])
    count[m, o]  = what epilogues read of it

The matrices are padded to whole tiles with zeros, which count nothing. Words beyond the plane are those of padding, so
every sum has all of its terms (``base`` in ``anchors.convolution`` takes back what they add).

Where a tensor core has no xor (of bits, or of bytes that are 0 or 1), it counts common bits:
``popcount(a ^ b) = popcount(a) + popcount(b) - 2 * popcount(a & b)``. The ones of a filter are a constant, those of a
window are counted besides, in stage ``ones``; ``count`` puts both together.
"""

import math
from collections.abc import Callable

import numpy as np
from tvm import relax, te, tirx

from tvm_bnn.gpus import BitProduct
from tvm_bnn.lower.layout import WORD, padded_channels, round_up
from tvm_bnn.lower.reader import Reader
from tvm_bnn.lower.tally import Table, Tally, different_bits_tally
from tvm_bnn.relay_passes.rewriter import shape_of

#: Pixels that a map has at least; a block has tiles of so many, of large maps (4,096 pixels and more) up to twice that.
PIXELS, MOST_PIXELS = 64, 128
_LARGE = 4096
#: Words that lie side by side, of a tap or of a filter, and are copied at once: at most.
RUN = 4


def step(product: BitProduct) -> int:
    """Words of which a window has a multiple: those of a product, and of a copy."""
    return max(product.depth // WORD, RUN)


def takes(call: relax.Call, target) -> bool:
    """Whether a binary convolution goes to tensor cores: there are some, and it has a tile for them."""
    batch, filters, height, width = shape_of(call)
    filled = padded_channels(filters) >= WORD and batch * height * width >= PIXELS
    return target.gpu is not None and int(call.attrs["groups"]) == 1 and filled


def tally_of_products(
    reader: Reader,
    shape: tuple[int, ...],
    read: Callable,
    weight: np.ndarray,
    base: Table,
    terms: int,
    target,
) -> Tally:
    """Stages ``window``, ``acc`` (``ones``) and ``count`` of a convolution, and what its sums are.

    shape : (N, O, H, W) of the result. read : (n, y, x, ky, kx, c) -> word. weight : words [O, KH, KW, C].
    base : ``sum = base - 2 * different bits``, all terms counted. terms : bits of a window.
    """
    product = target.gpu.product
    batch, filters, height, width = shape
    _, _, columns, held = weight.shape
    pixels, words = batch * height * width, math.prod(weight.shape[1:])
    rows = round_up(pixels, MOST_PIXELS if pixels >= _LARGE else PIXELS)
    depth = round_up(words, step(product))
    run = math.gcd(held, RUN)
    runs = held // run

    def element(m, part, place):
        """A word by the run that it lies in, all of one tap, and its place there: copies are of whole runs."""
        n, y, x = m // (height * width), m // width % height, m % width
        value = read(n, y, x, part // (columns * runs), part // runs % columns, part % runs * run + place)
        tests = [
            test
            for test, needed in ((m < pixels, rows > pixels), (part < words // run, depth > words))
            if needed
        ]
        return tirx.if_then_else(tirx.all(*tests), value, tirx.const(0, "uint32")) if tests else value

    window = reader.compute((rows, depth // run, run), element, "window")
    matrix = np.zeros((padded_channels(filters), depth), np.uint32)
    matrix[:filters, :words] = weight.reshape(filters, words)
    right, k = reader.array(matrix, "weight"), reader.reduce_axis(depth, "k")

    def counted(m, o):
        a, b = window(m, k.var // run, k.var % run), right(o, k.var)
        return te.sum(tirx.popcount(a ^ b if product.operation == "xor" else a & b), axis=k)

    acc = reader.compute((rows, len(matrix)), counted, "acc")

    def row(n, y, x):
        return (n * height + y) * width + x

    if product.operation == "xor":
        count = reader.compute((rows, len(matrix)), lambda m, o: acc(m, o), "count")
        return different_bits_tally(lambda n, y, x, o: count(row(n, y, x), o), base, terms)
    part, place = reader.reduce_axis(words // run, "part"), reader.reduce_axis(run, "place")
    ones = reader.compute(
        (rows,), lambda m: te.sum(tirx.popcount(element(m, part.var, place.var)), axis=[part, place]), "ones"
    )

    def different(m, o):
        """Bits that differ, less the ones of the filter. (The stage that is read first is made first.)"""
        of_window, both = (each.astype("int32") for each in (ones(m), acc(m, o)))
        return of_window - tirx.const(2, "int32") * both

    count = reader.compute((rows, len(matrix)), different, "count")
    of_filter = np.bitwise_count(weight).sum(axis=(1, 2, 3), dtype=np.int32)[:, None, None]
    rest = Table((base.values - 2 * of_filter).astype(np.int32), base.rows, base.columns)
    return Tally(lambda index: count(row(index[0], index[2], index[3]), index[1]), rest, -2, -terms, terms, "int32")
