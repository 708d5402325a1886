"""Convolutions for tensor cores: an implicit product of matrices of 32-bit words.

Rows are pixels of the result, columns filters, and the depth is the words of a window, tap after tap:

    window[m, k] = word k of what pixel m reads, 0 behind the last one
    acc[m, o]    = sum over k of window[m, k] (*) weight[o, k]
    count[m, o]  = what epilogues read of it

with ``(*)`` = `dot`: of bits the ones of their operation, of numbers the sum of the products of a word's elements (four
bytes, two bfloat16, one of 19 bits). The matrices are padded to whole tiles with zeros, which add nothing. Of bits,
words beyond the plane are those of padding, so every sum has all of its terms (``base`` in ``anchors.convolution``
takes back what they add).

Where a tensor core has no xor (of bits, or of bytes that are 0 or 1), it counts common bits:
``popcount(a ^ b) = popcount(a) + popcount(b) - 2 * popcount(a & b)``. The ones of a filter are a constant, those of a
window are counted besides, in stage ``ones``; ``count`` puts both together.

Sums of floats are taken in the unit's order. PTX says of it that products are exact, and sums at least as precise as
float32.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from tvm import relax, te, tirx

from tvm_bnn.gpus import Product
from tvm_bnn.lower.index import Index, Scalar
from tvm_bnn.lower.layout import WORD, padded_channels, round_up
from tvm_bnn.lower.matrix import BYTES, HALVES, TF32
from tvm_bnn.lower.reader import Reader
from tvm_bnn.lower.tally import Table, Tally, different_bits_tally
from tvm_bnn.relay_passes.rewriter import dtype_of, op_name, shape_of

#: Pixels that a map has at least; a block has tiles of so many, of large maps (4,096 pixels and more) up to twice that.
PIXELS, MOST_PIXELS = 64, 128
_LARGE = 4096
#: Words that lie side by side, of a tap or of a filter, and are copied at once: at most.
RUN = 4
#: Numbers that tensor cores multiply, by what PTX calls them.
NUMBERS = {kind.name: kind for kind in (dataclasses.replace(BYTES, name="s8"), HALVES, TF32)}
#: What a stage of sums tells its schedule of them.
OPERANDS = "operands"
#: Operators that round what a convolution reads -> what it then multiplies.
_ROUNDED = {"bnn.bfloat16": "bf16", "bnn.tfloat32": "tf32"}


def step(product: Product) -> int:
    """Words of which a window has a multiple: those of a product, and of a copy."""
    return max(product.words, RUN)


def fills_tiles(call: relax.Call, groups: int) -> bool:
    """Whether a convolution has a tile for tensor cores."""
    batch, filters, height, width = shape_of(call)
    return groups == 1 and padded_channels(filters) >= WORD and batch * height * width >= PIXELS


def takes(call: relax.Call, target) -> bool:
    """Whether a binary convolution goes to tensor cores: there are some, and it has a tile for them."""
    return target.gpu is not None and fills_tiles(call, int(call.attrs["groups"]))


def product_of(call: relax.Call, target, definition: Mapping[relax.Var, relax.Expr]) -> Product | None:
    """What tensor cores multiply for a convolution of numbers: rounded ones alone. None where it does not go there.

    definition : what the variables are bound to.
    """
    if target.gpu is None or not fills_tiles(call, int(call.attrs.groups)):
        return None
    data = call.args[0]
    kind = "s8" if dtype_of(data) == "int8" else _ROUNDED.get(op_name(definition.get(data)), "")
    found: Product | None = target.gpu.product_of(kind)
    return found


def dot(product: Product, a: Scalar, b: Scalar) -> Scalar:
    """What two words add to a sum."""
    if not product.of_bits:
        return NUMBERS[product.operands].dot(a, b).astype(product.sums)
    return tirx.popcount(a ^ b if product.operation == "xor" else a & b)


class _Window(NamedTuple):
    """A window of every pixel as rows of words, of which so many lie side by side: element(m, part, place)."""

    words: int
    run: int
    element: Callable


def sums_of_products(
    reader: Reader, shape: tuple[int, ...], read: Callable, weight: np.ndarray, product: Product
) -> Callable[[Index], Scalar]:
    """Stages ``window``, ``acc`` and ``count`` of a convolution of numbers; returns logical index -> sum, of the
    product's dtype.

    shape : (N, O, H, W) of the result. read : (n, y, x, ky, kx, c) -> word. weight : words [O, KH, KW, C].
    """
    acc, _ = _products(reader, shape, read, weight, product)
    count = reader.compute(tuple(map(int, acc.shape)), lambda m, o: acc(m, o), "count")
    return _element(count, shape)


def tally_of_products(
    reader: Reader,
    shape: tuple[int, ...],
    read: Callable,
    weight: np.ndarray,
    base: Table,
    terms: int,
    product: Product,
) -> Tally:
    """Stages ``window``, ``acc`` (``ones``) and ``count`` of a binary convolution, and what its sums are.

    shape, read, weight : as above, of bits. base : ``sum = base - 2 * different bits``, all terms counted.
    terms : bits of a window.
    """
    if product.operation == "xor":
        count = sums_of_products(reader, shape, read, weight, product)
        return different_bits_tally(lambda n, y, x, o: count((n, o, y, x)), base, terms)
    acc, window = _products(reader, shape, read, weight, product)
    part, place = reader.reduce_axis(window.words // window.run, "part"), reader.reduce_axis(window.run, "place")
    bits = tirx.popcount
    ones = reader.compute(
        (int(acc.shape[0]),),
        lambda m: te.sum(bits(window.element(m, part.var, place.var)), axis=[part, place]),
        "ones",
    )

    def different(m, o):
        """Bits that differ, less the ones of the filter. (The stage that is read first is made first.)"""
        of_window, both = (each.astype("int32") for each in (ones(m), acc(m, o)))
        return of_window - tirx.const(2, "int32") * both

    count = _element(reader.compute(tuple(map(int, acc.shape)), different, "count"), shape)
    of_filter = np.bitwise_count(weight).sum(axis=(1, 2, 3), dtype=np.int32)[:, None, None]
    rest = Table((base.values - 2 * of_filter).astype(np.int32), base.rows, base.columns)
    return Tally(count, rest, -2, -terms, terms, "int32")


def _products(
    reader: Reader, shape: tuple[int, ...], read: Callable, weight: np.ndarray, product: Product
) -> tuple[te.Tensor, _Window]:
    """Stages ``window`` and ``acc``; arguments as of ``sums_of_products``."""
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

    def summed(m, o):
        return te.sum(dot(product, window(m, k.var // run, k.var % run), right(o, k.var)), axis=k)

    noted = {} if product.of_bits else {OPERANDS: product.operands}
    return reader.compute((rows, len(matrix)), summed, "acc", noted), _Window(words, run, element)


def _element(count: Callable, shape: tuple[int, ...]) -> Callable[[Index], Scalar]:
    """Logical index -> element of a stage [pixels, filters]."""
    _, _, height, width = shape
    return lambda index: count((index[0] * height + index[2]) * width + index[3], index[1])
