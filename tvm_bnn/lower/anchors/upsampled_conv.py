"""Binary convolutions of a nearest-upsampled map, from sums that are made before the upsampling.

Taps that step to the next row, and to the next column, of the map at the same places of the output are added up at each
of its pixels (`shared_taps`); an output pixel is then a sum of few such *parts*. With x2 and 3x3 taps:

    part_0[y, x] = the corners' four taps           part_1[y, x] = the middle column's outer taps
    part_2[y, x] = the middle row's outer taps      part_3[y, x] = the middle tap
    acc[y, x]    = part_0[(y + 1) / 2, (x + 1) / 2] + part_1[(y + 1) / 2, x / 2]
                 + part_2[y / 2, (x + 1) / 2] + part_3[y / 2, x / 2]

which is 9 products and 12 additions for 4 pixels, instead of 36 and 36. A window reads outside of the upsampled map
where it reads outside of the map, so padding is the map's; how zeros are counted is said in ``convolution``. Where
there is a matrix unit parts are sums of products (as in ``matrix``), else counts of different bits.

Rows of a part are so long that tiles of pixels fill them, two at least, since TVM does not find a single one where a
block of rows reads it. Tiles are noted on the stages, for schedules.
"""

import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import relax, te, tirx

from tvm_bnn import ops
from tvm_bnn.lower.anchors import Anchor, convolution
from tvm_bnn.lower.layout import WORD, padded_channels, round_up, words
from tvm_bnn.lower.matrix import BYTES, TILE_PIXELS, multiplies, sum_of_products, tile_weights
from tvm_bnn.lower.reader import Reader
from tvm_bnn.lower.tally import different_bits_tally, product_tally
from tvm_bnn.lower.words import has_words, word
from tvm_bnn.relay_passes.fold_constants import value_of
from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.phases import SharedTaps, shared_taps
from tvm_bnn.relay_passes.rewriter import shape_of

#: Parts of a kernel, all of which lie in a cache.
MOST_PARTS = 16


@dataclass(frozen=True)
class Shared:
    """A convolution behind nearest upsampling.

    source : the map [N, C, H, W] of bits before it. scales : how many times each row, and each column, is read.
    taps : of its rows and of its columns, those that move together.
    """

    source: relax.Var
    scales: tuple[int, int]
    taps: tuple[list[SharedTaps], list[SharedTaps]]
    geometry: ops.BConv2DAttrs

    @classmethod
    def of(cls, reader: Reader, call: relax.Call) -> "Shared | None":
        """What a convolution shares; None where it reads its input as a view like any other.

        It shares where its kernel has no other convolution, by whole words of filters and whole blocks of s * s pixels.
        """
        region, resize = reader.region, reader.partition.definition.get(call.args[0])
        if resize is None or not is_nearest(resize):
            return None
        if region is None or region.branches or region.source or region.row_sums:
            return None
        source, geometry = resize.args[0], ops.BConv2DAttrs.from_call(call.attrs)
        (height, width), (rows, columns), out = (shape_of(e)[2:] for e in (source, resize, call))
        if rows % height or columns % width or geometry.strides != (1, 1) or geometry.groups != 1:
            return None
        scales = rows // height, columns // width
        if scales == (1, 1) or out[0] % scales[0] or out[1] % scales[1]:
            return None
        if padded_channels(shape_of(call)[1]) < WORD or not has_words(reader, source):
            return None
        kernel = shape_of(call.args[1])[2:]
        tall, wide = (
            shared_taps(kernel[axis], scales[axis], geometry.padding[axis], geometry.dilation[axis]) for axis in (0, 1)
        )
        return cls(source, scales, (tall, wide), geometry) if len(tall) * len(wide) <= MOST_PARTS else None

    def order(self, weight: np.ndarray) -> np.ndarray:
        """[O, C, KH, KW] -> [O, KH, KW, C] with the taps of each part side by side."""
        tall, wide = ([tap for shared in taps for tap in shared.taps] for taps in self.taps)
        return weight.transpose(0, 2, 3, 1)[:, tall][:, :, wide]

    def place(self, axis: int, shared: SharedTaps) -> int:
        """Where taps of an axis begin in this order."""
        before = self.taps[axis][: self.taps[axis].index(shared)]
        return sum(len(each.taps) for each in before)

    def counts(self, axis: int, outputs: int) -> list[int]:
        """Rows (axis 0) or columns (1) of each part for so many of the output."""
        return [(outputs - 1 + shared.shift) // self.scales[axis] + 1 for shared in self.taps[axis]]

    def origin(self, axis: int) -> int:
        """The first row or column of the map that is read, padding being negative."""
        return min(shared.first for shared in self.taps[axis])

    def reach(self, axis: int, counts: list[int]) -> int:
        """Rows or columns of the map that parts of such sizes read, from the origin on."""
        taps = zip(self.taps[axis], counts, strict=True)
        last = max(shared.first + (len(shared.taps) - 1) * shared.dilation + count for shared, count in taps)
        return last - self.origin(axis)

    def on_map(self, y, x):
        """A position, counted from the origin, on the map; and the condition that it lies there."""
        y, x = y + self.origin(0), x + self.origin(1)
        height, width = shape_of(self.source)[2:]
        return y, x, tirx.all(y >= 0, y < height, x >= 0, x < width)


def bconv2d(reader: Reader, call: relax.Call, target) -> Anchor:
    """Binary convolution of stored bits; the element is the exact integer sum (int32)."""
    shared = Shared.of(reader, call)
    if shared is None:
        return convolution.bconv2d(reader, call, target)
    weight, out = value_of(call.args[1]), shape_of(call)[2:]
    terms = math.prod(weight.shape[1:])
    if multiplies(target, len(weight), out[1], 1):
        tally = product_tally(_products(reader, call, shared, weight), terms)
        return Anchor(tally.count, "matrix_upsampled_conv", tally=tally)
    height, width = (extent * scale for extent, scale in zip(shape_of(shared.source)[2:], shared.scales, strict=True))
    base = convolution.base_of_sums(weight, shared.geometry, (height, width), out, (True, True))
    tally = different_bits_tally(_counts(reader, call, shared, weight, target), base, terms)
    return Anchor(lambda index: tally.sum(reader.table, index), "upsampled_conv", tally=tally)


def _added_up(reader: Reader, call: relax.Call, shared: Shared, widths: list[int], part: Callable):
    """Stages ``column_i``, parts added up along each row, and ``acc`` [N, H, W, O padded], those added up.

    widths : of parts, of each class of columns. part : (rows, columns, shape, name) -> stage.
    """
    batch, filters, *out = shape_of(call)
    channels, (sy, sx) = padded_channels(filters), shared.scales
    columns = []
    for i, (tall, height) in enumerate(zip(shared.taps[0], shared.counts(0, out[0]), strict=True)):
        parts = [
            part(tall, wide, (batch, height, width, channels), f"part_{i * len(widths) + j}")
            for j, (wide, width) in enumerate(zip(shared.taps[1], widths, strict=True))
        ]

        def along_row(n, y, x, o, parts=parts):
            places = [(x + wide.shift) // sx for wide in shared.taps[1]]
            return functools.reduce(operator.add, (p(n, y, place, o) for p, place in zip(parts, places, strict=True)))

        columns.append(reader.compute((batch, height, out[1], channels), along_row, f"column_{i}"))

    def add_up(n, y, x, o):
        places = [(y + tall.shift) // sy for tall in shared.taps[0]]
        return functools.reduce(operator.add, (c(n, place, x, o) for c, place in zip(columns, places, strict=True)))

    return reader.compute((batch, *out, channels), add_up, "acc", {"rows": sy, "columns": sx})


def _counts(reader: Reader, call: relax.Call, shared: Shared, weight: np.ndarray, target):
    """Stages ``pad``, parts and ``acc`` of how many bits differ."""
    (batch, channels, *_), out = shape_of(shared.source), shape_of(call)[2:]
    needed = shared.counts(1, out[1])
    pixels = _pixels_of_part(max(needed), target)
    widths = [max(round_up(count, pixels), 2 * pixels) for count in needed]
    padding_word = convolution.padding_words(shared.geometry.pad_value, channels)

    def padded(n, y, x, c):
        y, x, inside = shared.on_map(y, x)
        return tirx.if_then_else(inside, word(reader, shared.source, (n, y, x), c), padding_word(c))

    reach = shared.reach(0, shared.counts(0, out[0])), shared.reach(1, widths)
    source = reader.compute((batch, *reach, words(channels)), padded, "pad")

    values = convolution.constant_weights(reader, convolution.pack_words(shared.order(weight)), target.lanes32)

    def part(tall: SharedTaps, wide: SharedTaps, shape: tuple[int, int, int, int], name: str):
        first_row, first_column = shared.place(0, tall), shared.place(1, wide)
        extents = {"ky": len(tall.taps), "kx": len(wide.taps), "kc": words(channels)}
        axes = [reader.reduce_axis(extent, axis) for axis, extent in extents.items()]
        ky, kx, kc = (axis.var for axis in axes)

        def count(n, y, x, o):
            row = y + (tall.first - shared.origin(0)) + ky * tall.dilation
            column = x + (wide.first - shared.origin(1)) + kx * wide.dilation
            taken, taps = source(n, row, column, kc), values(n, o, first_row + ky, first_column + kx, kc)
            return te.sum(tirx.popcount(taken ^ taps), axis=axes)

        return reader.compute(shape, count, name, {"pixels": pixels})

    return _added_up(reader, call, shared, widths, part)


def _pixels_of_part(width: int, target) -> int:
    """Pixels of a register tile of a part; with them go two vectors of filters.

    What counts is the number of tiles of a row, each of so many sums, loads of a pixel and of weights.
    """
    vectors = min(2, WORD // target.lanes32)
    most = (target.registers - 4) // vectors - 1
    return min(range(1, max(most, 1) + 1), key=lambda p: -(-width // p) * (p * vectors + p + vectors))


def _products(reader: Reader, call: relax.Call, shared: Shared, weight: np.ndarray):
    """Stages ``bytes``, parts and ``acc`` of sums of products."""
    (batch, channels, *_), out = shape_of(shared.source), shape_of(call)[2:]
    needed = shared.counts(1, out[1])
    together = 1 if max(needed) <= TILE_PIXELS else 2
    pixels = -(-max(needed) // (together * -(-max(needed) // (together * TILE_PIXELS))))
    widths = [max(round_up(count, together * pixels), 2 * pixels) for count in needed]
    held = round_up(channels, BYTES.channels)

    def expand(n, y, x, c):
        y, x, inside = shared.on_map(y, x)
        value = convolution.sign_of(reader, shared.source, (n, y, x), c)
        return tirx.if_then_else(inside, value, tirx.const(shared.geometry.pad_value, "int8"))

    reach = shared.reach(0, shared.counts(0, out[0])), shared.reach(1, widths)
    source = reader.compute((batch, *reach, held), expand, "bytes", {"rows": "pixels", "pixel": held})
    tiles = tile_weights(np.where(shared.order(weight), 1, -1).astype(np.int8))
    values = reader.array(tiles, "weight")

    def part(tall: SharedTaps, wide: SharedTaps, shape: tuple[int, int, int, int], name: str):
        def taken(n, y, x, ky, kx, kb, kq, kr):
            row = y + (tall.first - shared.origin(0)) + ky * tall.dilation
            column = x + (wide.first - shared.origin(1)) + kx * wide.dilation
            return source(n, row, column, kb * BYTES.channels + kq * BYTES.per_word + kr)

        def weights(block, ky, kx, *place):
            return values(block, shared.place(0, tall) + ky, shared.place(1, wide) + kx, *place)

        taps = len(tall.taps), len(wide.taps), tiles.shape[3]
        return sum_of_products(reader, shape, taps, taken, weights, name, {"pixels": pixels, "tiles": together})

    return _added_up(reader, call, shared, widths, part)
