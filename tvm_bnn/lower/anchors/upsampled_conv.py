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

Convolutions that one kernel adds up have parts each, and ``acc``, ``acc_1`` and so on; one that is not behind the
upsampling (a lateral 1x1 convolution, say) has a single part, of all its taps, which each pixel of the output reads at
its own place.

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
from tvm_bnn.lower import tensor_core
from tvm_bnn.lower.anchors import Anchor, convolution
from tvm_bnn.lower.bit_counts import HALF, counts_dtype, different_halves, unit
from tvm_bnn.lower.layout import WORD, padded_channels, round_up, words
from tvm_bnn.lower.matrix import BYTES, TILE_PIXELS, multiplies_bits, sum_of_products, tile_weights
from tvm_bnn.lower.reader import Reader
from tvm_bnn.lower.tally import Table, different_bits_tally, product_tally, start_of_different_bits, started_tally
from tvm_bnn.lower.words import has_words, word
from tvm_bnn.relay_passes.borders import border_classes
from tvm_bnn.relay_passes.fold_constants import value_of
from tvm_bnn.relay_passes.hoist_upsample import is_nearest
from tvm_bnn.relay_passes.phases import SharedTaps, shared_taps
from tvm_bnn.relay_passes.rewriter import shape_of

#: Taps of one axis -> the class of each row, or column, of their parts.
_ByTaps = dict[tuple[int, ...], tuple[int, ...]]
#: Parts of a kernel, all of which lie in a cache.
MOST_PARTS = 16


@dataclass(frozen=True)
class Shared:
    """A convolution whose sums are added up from parts.

    source : the map [N, C, H, W] of bits that parts read. scales : how many times each row, and each column, of it is
    read; (1, 1) for a convolution that is not behind the upsampling: its one part has all taps.
    taps : of its rows and of its columns, those that move together.
    block : rows and columns of the output that are a pixel before the kernel's upsampling.
    """

    source: relax.Var
    scales: tuple[int, int]
    taps: tuple[list[SharedTaps], list[SharedTaps]]
    geometry: ops.BConv2DAttrs
    block: tuple[int, int]

    @classmethod
    def of(cls, reader: Reader, call: relax.Call) -> "Shared | None":
        """What a convolution shares; None where it reads its input as a view like any other.

        The convolutions that a kernel adds up share together, by the first upsampling that one of them is behind. What
        another one is behind, it reads as a view.
        """
        region = reader.region
        if region is None or region.source or region.row_sums:
            return None
        calls = [reader.partition.definition[var] for var in region.anchors]
        scales = next((s for s in (_upsampling(reader, each) for each in calls) if s != (1, 1)), None)
        if scales is None or any(cls._by(reader, each, scales) is None for each in calls):
            return None
        return cls._by(reader, call, scales)

    @classmethod
    def _by(cls, reader: Reader, call: relax.Call, scales: tuple[int, int]) -> "Shared | None":
        """The parts of a convolution, in whole words of filters and whole blocks of s * s pixels."""
        geometry, out = ops.BConv2DAttrs.from_call(call.attrs), shape_of(call)
        if geometry.strides != (1, 1) or geometry.groups != 1 or padded_channels(out[1]) < WORD:
            return None
        if out[2] % scales[0] or out[3] % scales[1]:
            return None
        source, own = call.args[0], (1, 1)
        if _upsampling(reader, call) == scales:
            source, own = reader.partition.definition[source].args[0], scales
        if not has_words(reader, source):
            return None
        kernel = shape_of(call.args[1])[2:]
        tall, wide = (
            shared_taps(kernel[axis], own[axis], geometry.padding[axis], geometry.dilation[axis]) for axis in (0, 1)
        )
        return cls(source, own, (tall, wide), geometry, scales) if len(tall) * len(wide) <= MOST_PARTS else None

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

    def bases(self, weight: np.ndarray, heights: list[int], widths: list[int]) -> Callable[..., Table]:
        """(rows, columns) of a part -> what twice its different bits are subtracted from, where the part is so large.

        As `convolution.base_of_sums`: a tap outside lies there for all the output that reads the part at that place.
        The numbers of all parts lie in one table.
        """
        channels = weight.shape[1]
        tall, tall_own, tall_inside = self._classes(0, heights)
        wide, wide_own, wide_inside = self._classes(1, widths)
        own = np.einsum("ry,cx->rcyx", tall_own, wide_own)
        outside = own & ~np.einsum("ry,cx->rcyx", tall_inside, wide_inside)
        if self.geometry.pad_value != 0 or not outside.any():
            return lambda rows, columns: Table.of_number(channels * len(rows.taps) * len(columns.taps))
        per_tap = np.where(self.order(weight), 1, -1).sum(axis=3)
        values = channels * own.sum(axis=(2, 3)) + np.einsum("oyx,rcyx->orc", per_tap, outside)
        return lambda rows, columns: Table(values, tall[rows.taps], wide[columns.taps])

    def _classes(self, axis: int, counts: list[int]) -> tuple[_ByTaps, np.ndarray, np.ndarray]:
        """Taps -> border classes of the rows (axis 0) or columns of their parts; per class its taps, and those inside.

        Classes are numbered through all parts, taps in the order of `order`.
        """
        classes: _ByTaps = {}
        own: list[np.ndarray] = []
        inside: list[np.ndarray] = []
        for shared, count in zip(self.taps[axis], counts, strict=True):
            found, masks = border_classes(
                shape_of(self.source)[2 + axis], len(shared.taps), 1, shared.dilation, -shared.first, count
            )
            classes[shared.taps] = tuple(len(own) + each for each in found)
            around = self.place(axis, shared), sum(len(each.taps) for each in self.taps[axis])
            for mask in masks:
                after = around[1] - around[0] - len(mask)
                own.append(np.pad(np.ones_like(mask), (around[0], after)))
                inside.append(np.pad(mask, (around[0], after)))
        return classes, np.stack(own), np.stack(inside)

    def on_map(self, y, x):
        """A position, counted from the origin, on the map; and the condition that it lies there."""
        y, x = y + self.origin(0), x + self.origin(1)
        height, width = shape_of(self.source)[2:]
        return y, x, tirx.all(y >= 0, y < height, x >= 0, x < width)

    def copy(self, reader: Reader, reach: tuple[int, int], make: Callable[[], te.Tensor]) -> te.Tensor:
        """The stage of the rows that parts read, of so many rows and columns; convolutions that read the same share."""
        key = (self.source, self.geometry.pad_value, self.origin(0), self.origin(1), *reach)
        return reader.once(key, make)


def _upsampling(reader: Reader, call: relax.Call) -> tuple[int, int]:
    """How many times a convolution reads each row, and each column, of a nearest-upsampled map; else (1, 1)."""
    resize = reader.partition.definition.get(call.args[0])
    if resize is None or not is_nearest(resize):
        return 1, 1
    (height, width), (rows, columns) = (shape_of(e)[2:] for e in (resize.args[0], resize))
    return (1, 1) if rows % height or columns % width else (rows // height, columns // width)


def bconv2d(reader: Reader, call: relax.Call, target) -> Anchor:
    """Binary convolution of stored bits; the element is the exact integer sum (int32)."""
    if tensor_core.takes(call, target):
        return convolution.bconv2d_on_tensor_cores(reader, call, target)
    shared = Shared.of(reader, call) if target.gpu is None else None
    if shared is None:
        return convolution.bconv2d(reader, call, target)
    weight, out = value_of(call.args[1]), shape_of(call)[2:]
    terms = math.prod(weight.shape[1:])
    if multiplies_bits(target, len(weight), out[1], 1):
        tally = product_tally(_products(reader, call, shared, weight), terms)
        return Anchor(tally.count, "matrix_upsampled_conv", tally=tally)
    dtype = _dtype_of_begun(weight, target)
    acc = _counts(reader, call, shared, weight, target, dtype)
    if dtype:
        tally = started_tally(acc, terms, dtype)
    else:
        size = [extent * scale for extent, scale in zip(shape_of(shared.source)[2:], shared.scales, strict=True)]
        base, _ = convolution.base_of_sums(weight, shared.geometry, (size[0], size[1]), out, (True, True))
        tally = different_bits_tally(acc, base, terms)
    return Anchor(lambda index: tally.sum(reader.table, index), "upsampled_conv", tally=tally)


def _dtype_of_begun(weight: np.ndarray, target) -> str | None:
    """Of parts that begin so that -2 times their sum is one of signs; None where they begin at 0: of an odd number of
    channels, or in halves of words.

    What parts take of caches and of loads is much of their cost, so they have 16 bits where a vector of these is one.
    """
    if weight.shape[1] % 2 or unit(target, len(weight)) == HALF:
        return None
    return "int16" if target.lanes32 >= 16 and math.prod(weight.shape[1:]) < 1 << 16 else "int32"


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

    noted = dict(zip(("rows", "columns"), shared.block, strict=True))
    return reader.compute((batch, *out, channels), add_up, "acc", noted)


def _counts(reader: Reader, call: relax.Call, shared: Shared, weight: np.ndarray, target, begun: str | None):
    """Stages ``pad``, parts and ``acc`` of how many bits differ.

    begun : dtype of those where counts begin so that -2 times ``acc`` is the sum; None where they begin at 0.
    """
    (batch, channels, *_), out = shape_of(shared.source), shape_of(call)[2:]
    widths = shared.counts(1, out[1])
    halves = unit(target, len(weight)) == HALF
    pixels = _pixels_of_part(max(widths), target, halves)
    widths = [max(round_up(count, pixels), 2 * pixels) for count in widths]
    padding_word = convolution.padding_words(shared.geometry.pad_value, channels)

    def padded(n, y, x, c):
        y, x, inside = shared.on_map(y, x)
        return tirx.if_then_else(inside, word(reader, shared.source, (n, y, x), c), padding_word(c))

    reach = shared.reach(0, shared.counts(0, out[0])), shared.reach(1, widths)
    source = shared.copy(reader, reach, lambda: reader.compute((batch, *reach, words(channels)), padded, "pad"))

    ordered = convolution.pack_words(shared.order(weight))
    values = convolution.constant_weights(
        reader, ordered.view("<u2") if halves else ordered, WORD if halves else target.lanes32
    )
    dtype = counts_dtype(math.prod(weight.shape[1:]))
    bases = shared.bases(weight, shared.counts(0, out[0]), widths)

    def part(tall: SharedTaps, wide: SharedTaps, shape: tuple[int, int, int, int], name: str):
        first_row, first_column = shared.place(0, tall), shared.place(1, wide)
        taps = len(tall.taps), len(wide.taps), words(channels)

        def taken(n, y, x, ky, kx, _group, kc):
            row = y + (tall.first - shared.origin(0)) + ky * tall.dilation
            column = x + (wide.first - shared.origin(1)) + kx * wide.dilation
            return source(n, row, column, kc)

        def weights(n, o, ky, kx, k):
            return values(n, o, first_row + ky, first_column + kx, k)

        size, noted = (shape[0], shape[3], shape[1], shape[2]), {"pixels": pixels}
        if halves:
            return different_halves(
                reader, size, taps, taken, weights, 1, None, True, target, dtype, name=name, attrs=noted
            )
        start = start_of_different_bits(bases(tall, wide)) if begun else None
        sums = functools.partial(
            convolution.word_sums,
            *(reader, size, taps, taken, weights),
            start=None if start is None else (lambda n, y, x, o: reader.table(start, (n, o, y, x))),
        )
        if begun != "int16":
            return sums(attrs=noted, name=name)
        whole = sums(name=name.replace("part", "whole"))
        return reader.compute(shape, lambda *place: whole(*place).astype(begun), name, noted)

    return _added_up(reader, call, shared, widths, part)


def _pixels_of_part(width: int, target, halves: bool) -> int:
    """Pixels of a register tile of a part, of two vectors of filters; halves of words take a register more a pixel.

    What counts is the number of tiles of a row, each of so many sums, loads of a pixel and of weights.
    """
    vectors = min(2, WORD // target.lanes32)
    most = (target.registers - 4) // vectors - (2 if halves else 1)
    return min(range(1, max(most, 1) + 1), key=lambda p: -(-width // p) * (p * vectors + p + vectors))


def _tiles_of_part(width: int) -> tuple[int, int]:
    """Pixels of a tile register, and how many of these go together: the same for all parts of a kernel.

    width : of the widest part before the upsampling.
    """
    together = 1 if width <= TILE_PIXELS else 2
    return -(-width // (together * -(-width // (together * TILE_PIXELS)))), together


def _products(reader: Reader, call: relax.Call, shared: Shared, weight: np.ndarray):
    """Stages ``bytes``, parts and ``acc`` of sums of products."""
    (batch, channels, *_), out = shape_of(shared.source), shape_of(call)[2:]
    pixels, together = _tiles_of_part(out[1] // shared.block[1] + 1)
    widths = [max(round_up(count, together * pixels), 2 * pixels) for count in shared.counts(1, out[1])]
    held = round_up(channels, BYTES.channels)

    def expand(n, y, x, c):
        y, x, inside = shared.on_map(y, x)
        value = convolution.sign_of(reader, shared.source, (n, y, x), c)
        return tirx.if_then_else(inside, value, tirx.const(shared.geometry.pad_value, "int8"))

    reach = shared.reach(0, shared.counts(0, out[0])), shared.reach(1, widths)
    noted: dict[str, int | str] = {"rows": "pixels", "pixel": held}
    source = shared.copy(reader, reach, lambda: reader.compute((batch, *reach, held), expand, "bytes", noted))
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
