"""Convolutions and products of activations for tensor cores: products of matrices of 32-bit words that are not stored.

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

A product of two activations has ``other`` in the place of ``weight``, and ``ones_of_other`` besides. Where there are
several, every stage has an index before the others that says which.

Sums of floats are taken in the unit's order. PTX says of it that products are exact, and sums at least as precise as
float32.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

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
NUMBERS = {kind.name: kind for kind in (replace(BYTES, name="s8"), HALVES, TF32)}
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


def takes_product(call: relax.Call, target) -> bool:
    """Whether a product of two activations' bits does: each of several has tiles of its own."""
    _, columns, height, width = shape_of(call)
    return target.gpu is not None and padded_channels(columns) >= WORD and height * width >= PIXELS


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


@dataclass(frozen=True)
class _Words:
    """Rows of words of an operand, as they are read, and as they are stored: with zeros behind the last row and word.

    lead : how many products there are, where these have operands of their own; else (). rows, words : of one of them.
    read : (*lead, row, part, place) -> word, of parts of ``run`` words that lie side by side.
    """

    lead: tuple[int, ...]
    rows: int
    words: int
    run: int
    read: Callable

    def element(self, rows: int, depth: int) -> Callable:
        """The same of so many rows and words."""

        def element(*index):
            row, part = index[-3:-1]
            tests = [
                test
                for test, needed in (
                    (row < self.rows, rows > self.rows),
                    (part < self.words // self.run, depth > self.words),
                )
                if needed
            ]
            value = self.read(*index)
            return tirx.if_then_else(tirx.all(*tests), value, tirx.const(0, "uint32")) if tests else value

        return element

    def stage(self, reader: Reader, rows: int, depth: int, name: str) -> Callable:
        """A stage of them; returns (*lead, row, word) -> word."""
        shape = (*self.lead, rows, depth // self.run, self.run)
        stage = reader.compute(shape, self.element(rows, depth), name)
        return lambda *index: stage(*index[:-1], index[-1] // self.run, index[-1] % self.run)

    def ones(self, reader: Reader, rows: int, name: str) -> te.Tensor:
        """A stage of how many ones each row has."""
        part, place = reader.reduce_axis(self.words // self.run, "part"), reader.reduce_axis(self.run, "place")
        element = self.element(rows, self.words)

        def counted(*index):
            return te.sum(tirx.popcount(element(*index, part.var, place.var)), axis=[part, place])

        return reader.compute((*self.lead, rows), counted, name)


def _windows(shape: tuple[int, ...], weight: np.ndarray, read: Callable) -> _Words:
    """The window of every pixel of a result [N, O, H, W], tap after tap; arguments as of ``sums_of_products``."""
    batch, _, height, width = shape
    _, _, columns, held = weight.shape
    run = math.gcd(held, RUN)  # copies are of whole runs, which lie in one tap
    runs = held // run

    def element(m, part, place):
        n, y, x = m // (height * width), m // width % height, m % width
        return read(n, y, x, part // (columns * runs), part // runs % columns, part % runs * run + place)

    return _Words((), batch * height * width, math.prod(weight.shape[1:]), run, element)


def _padded_rows(rows: int) -> int:
    return round_up(rows, MOST_PIXELS if rows >= _LARGE else PIXELS)


def sums_of_products(
    reader: Reader, shape: tuple[int, ...], read: Callable, weight: np.ndarray, product: Product
) -> Callable[[Index], Scalar]:
    """Stages ``window``, ``acc`` and ``count`` of a convolution of numbers; returns logical index -> sum, of the
    product's dtype.

    shape : (N, O, H, W) of the result. read : (n, y, x, ky, kx, c) -> word. weight : words [O, KH, KW, C].
    """
    return _by_pixel(_count(reader, _products(reader, _windows(shape, weight, read), weight, product)), shape)


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
    windows = _windows(shape, weight, read)
    acc = _products(reader, windows, weight, product)
    # bits that differ, less the ones of the filter
    count = _by_pixel(_count(reader, acc, windows.ones(reader, int(acc.shape[0]), "ones")), shape)
    of_filter = np.bitwise_count(weight).sum(axis=(1, 2, 3), dtype=np.int32)[:, None, None]
    rest = Table((base.values - 2 * of_filter).astype(np.int32), base.rows, base.columns)
    return Tally(count, rest, -2, -terms, terms, "int32")


def tally_of_activations(
    reader: Reader, shape: tuple[int, ...], left: Callable, right: Callable, length: int, product: Product
) -> Tally:
    """Stages ``window``, ``other``, ``acc`` (``ones``, ``ones_of_other``) and ``count`` of a product of two
    activations' bits, and what its sums are.

    shape : (B, N, H, W) of the result. left : (b, y, x, word) -> word; right : (b, n, word) -> word.
    length : bits of each row.
    """
    batch, columns, height, width = shape
    lead, held = (batch,) if batch > 1 else (), -(-length // WORD)
    run = math.gcd(held, RUN)

    def image(lead: list) -> Scalar:
        return lead[0] if lead else tirx.const(0, "int32")

    def of_left(*index):
        *first, m, part, place = index
        return left(image(first), m // width, m % width, part * run + place)

    def of_right(*index):
        *first, o, part, place = index
        return right(image(first), o, part * run + place)

    windows, others = (
        _Words(lead, rows, held, run, read) for rows, read in ((height * width, of_left), (columns, of_right))
    )
    acc = _products(reader, windows, others, product)
    *_, rows, filters = map(int, acc.shape)
    counted = []
    if product.operation == "and":
        counted = [windows.ones(reader, rows, "ones"), others.ones(reader, filters, "ones_of_other")]
    count = _count(reader, acc, *counted)

    def of_index(index: Index) -> Scalar:
        b, o, y, x = index
        return count(*([b] if lead else []), y * width + x, o)

    return Tally(of_index, Table.of_number(length), -2, 0, length, str(count.dtype))


def _products(reader: Reader, windows: _Words, right: np.ndarray | _Words, product: Product) -> te.Tensor:
    """Stages ``window``, ``acc``, and ``other`` where the right operand is no array of words [O, ...]."""
    rows, depth = _padded_rows(windows.rows), round_up(windows.words, step(product))
    columns = padded_channels(right.rows if isinstance(right, _Words) else len(right))
    window = windows.stage(reader, rows, depth, "window")
    if isinstance(right, _Words):
        other = right.stage(reader, columns, depth, "other")
    else:
        matrix = np.zeros((columns, depth), np.uint32)
        matrix[: len(right), : windows.words] = right.reshape(len(right), windows.words)
        other = reader.array(matrix, "weight")
    k = reader.reduce_axis(depth, "k")

    def summed(*index):
        *first, m, o = index
        return te.sum(dot(product, window(*first, m, k.var), other(*first, o, k.var)), axis=k)

    noted = {} if product.of_bits else {OPERANDS: product.operands}
    return reader.compute((*windows.lead, rows, columns), summed, "acc", noted)


def _count(
    reader: Reader, acc: te.Tensor, ones: Callable | None = None, ones_of_other: Callable | None = None
) -> te.Tensor:
    """Stage ``count``: the sums, or what of the ones is in no pair of those common bits that the sums count, int32.

    ones, ones_of_other : of the rows of the operands, where these are counted. (The stage that is read first is made
    first.)
    """

    def element(*index):
        *lead, m, o = index
        if ones is None:
            return acc(*index)
        total = ones(*lead, m).astype("int32")
        if ones_of_other is not None:
            total = total + ones_of_other(*lead, o).astype("int32")
        return total - tirx.const(2, "int32") * acc(*index).astype("int32")

    return reader.compute(tuple(map(int, acc.shape)), element, "count")


def _by_pixel(count: Callable, shape: tuple[int, ...]) -> Callable[[Index], Scalar]:
    """Logical index -> element of a stage [pixels, filters]."""
    _, _, height, width = shape
    return lambda index: count((index[0] * height + index[2]) * width + index[3], index[1])
