"""Sums on a matrix unit: tiles of bytes, or of bfloat16, are multiplied.

AMX multiplies 16 x 64 bytes by 64 x 16 in sixteen cycles: 1024 products a cycle, where counting bits of 512-bit vectors
gives 341 (one vector of popcounts a cycle, and with ``xor`` and ``add`` three instructions on two ports), and fused
float steps 32. So bits become bytes +1 and -1 again. They still travel between kernels: a kernel expands the rows that
a block of its output reads, once for all filters:

    bytes[n, y, x, c] = +1 or -1, 0 for zero padding; int8 activations as they are; of bfloat16 the upper halves
    acc[n, y, x, o]   = sum over (ky, kx, c) of bytes * weight                     int32 (float32 of bfloat16)

That is the integer sum itself, without a correction for borders. A load takes 64 bytes of each of up to 16 pixels; how
channels and taps fill them is said at `Rows`. Weights are stored as [O/16, KH, KW, C/64, 16, 16, 4]: for each block of
filters and tap the tile that the unit reads, four neighbouring channels of one filter side by side (two of bfloat16,
and 32 channels a tile).
"""

import functools
import operator
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
from tvm import te, tirx

from tvm_bnn.lower.frame import Frame
from tvm_bnn.lower.layout import WORD, padded_channels, round_up
from tvm_bnn.lower.operator import register
from tvm_bnn.lower.reader import Reader
from tvm_bnn.ops import BConv2DAttrs

#: Channels and filters of a tile of weights, and the most pixels of a tile of input.
TILE_CHANNELS, TILE_FILTERS, TILE_PIXELS, TILE_WORDS = 64, 16, 16, 16
#: Fewer pixels leave too much of the unit idle: with up to 8 of 16, counting bits is as fast or faster, most of all
#: where the bytes of the weights, eight times their bits, no longer fit in the second-level cache.
LEAST_PIXELS = 9
_SIGN_BYTE = "bnn.sign_byte"


def _lower_sign_byte(call):
    """A bit-cast of the word to a mask where neighbouring lanes ask for the bits of one word, else a shift."""
    word, lane = call.args
    lanes = int(str(call.ty.dtype).partition("x")[2] or 1)
    if (
        lanes == WORD
        and isinstance(word, tirx.Broadcast)
        and isinstance(lane, tirx.Ramp)
        and all(isinstance(i, tirx.IntImm) for i in (lane.base, lane.stride))
        and (lane.base.value, lane.stride.value) == (0, 1)
    ):
        bit = tirx.Cast(f"boolx{lanes}", tirx.reinterpret(f"uint1x{lanes}", word.value))
    else:
        unsigned = str(word.ty.dtype)
        bit = tirx.NE((word >> tirx.Cast(unsigned, lane)) & tirx.const(1, unsigned), tirx.const(0, unsigned))
    one, minus_one = (tirx.const(value, str(call.ty.dtype)) for value in (1, -1))
    return tirx.Select(bit, one, minus_one)


register(_SIGN_BYTE, 2, _lower_sign_byte)


def sign_byte(word, lane):
    """+1 where bit ``lane`` (int32, below 32) of a word (uint32) is 1, else -1; int8."""
    return tirx.call_intrin("int8", _SIGN_BYTE, word, lane)


def pixels_of_tile(width: int) -> int:
    """Pixels of a tile: the largest part of a row that a tile holds and that divides the row."""
    return max(pixels for pixels in range(1, min(width, TILE_PIXELS) + 1) if width % pixels == 0)


def multiplies_bfloat16(target) -> bool:
    """Whether the target's matrix unit takes bfloat16 as well."""
    return target.matrix != "" and target.has("amx-bf16")


def multiplies_bits(target, filters: int, width: int, groups: int) -> bool:
    """Whether a convolution of bits goes to the matrix unit: the target wants it, and its tiles are filled well."""
    return target.multiplies_bits and multiplies(target, filters, width, groups)


def multiplies(target, filters: int, width: int, groups: int) -> bool:
    """Whether a convolution of bytes goes to the matrix unit: there is one, and its tiles are filled well."""
    return (
        target.matrix != ""
        and groups == 1
        and padded_channels(filters) >= WORD
        and pixels_of_tile(width) >= LEAST_PIXELS
    )


@dataclass(frozen=True)
class Operands:
    """What a unit multiplies, and the sum that it makes: elements of dtype, per_word of them in 32 bits."""

    name: str
    dtype: str
    per_word: int
    sums: str

    @property
    def channels(self) -> int:
        """Elements of a row of a tile."""
        return TILE_WORDS * self.per_word

    def product(self, a, b):
        """The product of two elements, in the dtype of the sums."""
        return self._value(a) * self._value(b)

    def _value(self, element):
        if self.sums == "int32":
            return element.astype("int32")
        return tirx.reinterpret("float32", element.astype("uint32") << tirx.const(32 - self._bits, "uint32"))

    @property
    def _bits(self) -> int:
        return 32 // self.per_word

    def element(self, value):
        """What stands for a number that such an element can be: the upper bits of a float32, or the integer itself."""
        if self.sums == "int32":
            return value
        word = tirx.reinterpret("uint32", value)
        return word if self._bits == 32 else tirx.Cast(self.dtype, word >> tirx.const(32 - self._bits, "uint32"))

    def elements(self, values: np.ndarray) -> np.ndarray:
        """The same of an array."""
        if self.sums == "int32":
            return values
        return (np.ascontiguousarray(values).view(np.uint32) >> (32 - self._bits)).astype(self.dtype)

    def words(self, values: np.ndarray) -> np.ndarray:
        """Numbers [..., C] as words [..., ceil(C / per_word)], uint32, zeros behind C."""
        missing = -values.shape[-1] % self.per_word
        padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])
        return np.ascontiguousarray(self.elements(padded)).view("<u4")

    def dot(self, a, b):
        """The sum of the products of two words' elements."""
        places = [tirx.const(place, "int32") for place in range(self.per_word)]
        return functools.reduce(operator.add, (self.product(self.of_word(a, i), self.of_word(b, i)) for i in places))

    def of_word(self, word, position):
        """Element at a position (int32) of a word (uint32)."""
        shift = tirx.Cast("uint32", position) * tirx.const(self._bits, "uint32")
        return (word >> shift).astype(self.dtype)

    def word(self, elements: list):
        """A word of so many elements."""
        if self.per_word == 1:
            return elements[0]
        parts = [tirx.Cast("uint32", element) & tirx.const((1 << self._bits) - 1, "uint32") for element in elements]
        shifted = (part << tirx.const(self._bits * i, "uint32") for i, part in enumerate(parts))
        return functools.reduce(operator.or_, shifted)


BYTES = Operands("int8", "int8", 4, "int32")
#: bfloat16 as the upper halves of float32.
HALVES = Operands("bf16", "uint16", 2, "float32")
#: float32 whose last 13 bits are 0.
TF32 = Operands("tf32", "uint32", 1, "float32")


def tile_weights(values: np.ndarray, operands: Operands = BYTES) -> np.ndarray:
    """[O, KH, KW, C] -> [Op/16, KH, KW, Cp/(16*P), 16, 16, P] with P elements a word; 0 where there is no channel."""
    filters, height, width, channels = values.shape
    padded = np.zeros((padded_channels(filters), height, width, round_up(channels, operands.channels)), values.dtype)
    padded[:filters, :, :, :channels] = values
    blocks = padded.shape[-1] // operands.channels
    tiles = padded.reshape(-1, TILE_FILTERS, height, width, blocks, TILE_WORDS, operands.per_word)
    return np.ascontiguousarray(np.moveaxis(tiles, 1, 5))


@dataclass(frozen=True)
class Rows:
    """How rows of input lie that tiles are loaded from: a load takes 64 bytes for each of a tile's pixels.

    ``pixels``  [N, H, W, C] with channels padded to whole loads; each tap is loads of its own.
    ``run``     [N, H, W * C] where a load may hold several taps of a row, and what lies behind (its weights are 0).
    ``words``   [N, H, W / 16, 16 * words] of a run as words: for so few channels that a vector of pixels is filled word
                by word. Its border is so wide that the input begins with a vector. Schedules flatten it to a run.

    kind : one of these. pixel : elements of a pixel. columns : pixels of a row. lead : of them before those that the
    first result reads.
    """

    kind: str
    pixel: int
    columns: int
    lead: int = 0

    @classmethod
    def apart(cls, operands: Operands, weight: np.ndarray, reach: int) -> "Rows":
        """Rows whose taps are loads of their own; arguments as of ``of``."""
        return cls("pixels", round_up(weight.shape[3], operands.channels), reach)

    @classmethod
    def of(cls, operands: Operands, weight: np.ndarray, reach: int, pixels: int, geometry: BConv2DAttrs) -> "Rows":
        """The rows for a weight [O, KH, KW, C] that reach over so many columns of padded input, for so many pixels."""
        _, _, taps, channels = weight.shape
        whole = round_up(channels, operands.channels)
        thin = channels <= 2 * operands.per_word
        pixel = round_up(channels, operands.per_word if thin else TILE_FILTERS)
        if geometry.dilation[1] > 1 or pixel == whole:
            return cls.apart(operands, weight, reach)
        left = geometry.padding[1]
        lead = round_up(left, TILE_PIXELS) - left if thin else 0
        last = (pixels - 1) * geometry.strides[1] * pixel + round_up(taps * pixel, operands.channels)
        return cls("words" if thin else "run", pixel, round_up(lead - (-last // pixel), TILE_PIXELS), lead)

    def taps(self, weight: np.ndarray) -> np.ndarray:
        """Weights [O, KH, KW, C] with the taps of a run side by side: [O, KH, 1, KW * pixel]."""
        if self.kind == "pixels":
            return weight
        filters, height, width, channels = weight.shape
        padded = np.pad(weight, [(0, 0)] * 3 + [(0, self.pixel - channels)])
        return padded.reshape(filters, height, 1, width * self.pixel)


def tile_sums(
    reader: Reader,
    shape: tuple[int, int, int, int],
    frame: Frame,
    weight: np.ndarray,
    element: Callable,
    inside: Callable,
    in_width: int,
    pad_value: int,
    geometry: BConv2DAttrs,
    operands: Operands = BYTES,
    runs: bool = True,
    shared: Hashable | None = None,
):
    """Stages ``bytes`` and ``acc`` [N, H, W, O padded] of a convolution; acc is its sum.

    shape : (N, O, H, W) of the result. frame : rows and columns of padded input; the convolution's, or a larger one.
    weight : [O, KH, KW, C], elements of the operands. element : (n, y, x, c) -> element of the input at a padded
    position. inside : (y, x, rows, columns) -> condition that it is no padding, of so many; None if none is.
    in_width : columns of the input. runs : whether loads may hold several taps; a larger frame is for those that may
    not. shared : what ``bytes`` is known by to other convolutions of the kernel, which then read the same.

    What schedules need is noted on the stages: on ``bytes`` the kind of its `Rows` and elements of a pixel, on ``acc``
    elements of ``bytes`` from one result of a row to the next, and what it is called.
    """
    batch, filters, height, width = shape
    (sy, sx), (dy, dx), (above, before) = geometry.strides, geometry.dilation, frame.first(geometry)
    reach = frame.columns
    rows = Rows.of(operands, weight, reach, width, geometry) if runs else Rows.apart(operands, weight, reach)
    channels, per_word = weight.shape[3], operands.per_word
    tiles = tile_weights(rows.taps(weight), operands)
    quads = tiles.shape[4]

    def padded(n, y, x, c):
        return element(n, y, x, c if rows.pixel == channels or rows.kind == "pixels" else reader.inside(c, channels))

    def expand(n, y, x, c):
        valid = inside(y, x, frame.rows, rows.columns)
        value = padded(n, y, x, c)
        return value if valid is None else tirx.if_then_else(valid, value, tirx.const(pad_value, operands.dtype))

    held = rows.pixel // per_word if rows.kind == "words" else rows.pixel
    vector = TILE_PIXELS * held  # words that are made at once

    def expand_words(n, y, block, i):
        x, word = block * TILE_PIXELS + i // held, i % held
        # all of a vector is border, or none of it
        valid = inside(y, (x if in_width % TILE_PIXELS else block * TILE_PIXELS) - rows.lead, frame.rows, rows.columns)
        value = operands.word([padded(n, y, x - rows.lead, word * per_word + i) for i in range(per_word)])
        return value if valid is None else tirx.if_then_else(valid, value, tirx.const(0, "uint32"))

    def expand_run(n, y, i):
        return expand(n, y, i // held, i % held)

    stages: dict[str, tuple[tuple[int, ...], Callable]] = {
        "pixels": ((rows.columns, held), expand),
        "run": ((rows.columns * held,), expand_run),
        "words": ((rows.columns // TILE_PIXELS, vector), expand_words),
    }
    size, make = stages[rows.kind]
    source = reader.once(
        shared,
        lambda: reader.compute((batch, frame.rows, *size), make, "bytes", {"rows": rows.kind, "pixel": held}),
    )

    def taken(n, y, x, ky, kx, kb, kq, kr):
        row, column = y * sy + ky * dy + above, x * sx + kx * dx + before
        if rows.kind == "words":
            place = (column + rows.lead) * held + kb * quads + kq
            return operands.of_word(source(n, row, place // vector, place % vector), kr)
        position = kb * operands.channels + kq * per_word + kr
        place = (column, position) if rows.kind == "pixels" else (column * held + position,)
        return source(n, row, *place)

    step = sx if rows.kind == "pixels" else sx * held
    rule = f"conv2d-{operands.name}" if runs else "bconv2d"
    noted: dict[str, int | str] = {"step": step, "rows": rows.kind, "rule": rule}
    stored, weights = (batch, height, width, padded_channels(filters)), reader.array(tiles, "weight")
    return sum_of_products(reader, stored, tiles.shape[1:4], taken, weights, "acc", noted, operands)


def sum_of_products(
    reader: Reader,
    shape: tuple[int, int, int, int],
    taps: tuple[int, ...],
    taken: Callable,
    weights: Callable,
    name: str,
    noted: dict[str, int | str],
    operands: Operands = BYTES,
):
    """A stage of a shape [N, H, W, O padded]: sums of products.

    taps : rows, columns, loads of a tap. taken : (n, y, x, ky, kx, kb, kq, kr) -> element of the input;
    weights : (o / 16, ky, kx, kb, kq, o % 16, kr) -> weight, as `tile_weights` has them.
    noted : what schedules need to know, as annotations.
    """
    extents = {**dict(zip(("ky", "kx", "kb"), taps, strict=True)), "kq": TILE_WORDS, "kr": operands.per_word}
    axes = [reader.reduce_axis(extent, axis) for axis, extent in extents.items()]
    ky, kx, kb, kq, kr = (axis.var for axis in axes)

    def accumulate(n, y, x, o):
        tap = weights(o // TILE_FILTERS, ky, kx, kb, kq, o % TILE_FILTERS, kr)
        return te.sum(operands.product(taken(n, y, x, ky, kx, kb, kq, kr), tap), axis=axes)

    return reader.compute(shape, accumulate, name, noted)
