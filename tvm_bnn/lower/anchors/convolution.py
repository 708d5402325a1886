"""Convolutions, binary and float: one shape of computation, so one family of schedules.

``acc[n, y, x, o] = sum over (ky, kx, c) of  pad[n, y*sy + ky*dy, x*sx + kx*dx, c] (*) weight[o / L, ky, kx, c, o % L]``

with ``(*)`` = multiply for floats and popcount(xor) over words of 32 channels for bits. Weights are blocked by the L
lanes of a vector and padded with zero filters to the stored channel count.

Binary. A word's unused high bits are 0 in both operands, so they add nothing. With K taps per filter,
``sum s(x)*s(w) = K - 2*acc``. A tap padded with +1 or -1 is an ordinary tap whose bits are all 1 or all 0. Zero padding
stores bits 0, i.e. s = -1, so the accumulator counts ``-s(w)`` for each padded tap; adding the sum of s(w) over them,
a constant per (filter, border class), takes that back:

``sum = base[row class, column class, o] - 2*acc,   base = K + sum over padded taps of s(w)``.

Rows of taps that are padded with zeros are not visited at all: then K counts the taps of the other rows, and the sum
runs over those of them that are padded at the left and the right. Where a register tile is a whole row of the map, so
that which pixels count is known when the kernel is built, columns are left out as well, and nothing is padded.
"""

import operator
from collections.abc import Callable, Mapping
from functools import reduce
from types import MappingProxyType

import numpy as np
from tvm import relax, te, tirx

from tvm_bnn import ops
from tvm_bnn.gpus import Product
from tvm_bnn.lower import tensor_core
from tvm_bnn.lower.anchors import Anchor, few_filters
from tvm_bnn.lower.bit_counts import (
    HALF,
    NIBBLES,
    byte_lanes,
    counts_bytes,
    counts_dtype,
    different_bits,
    different_halves,
    different_nibbles,
    unit,
    unit_lanes,
)
from tvm_bnn.lower.bounds import within
from tvm_bnn.lower.frame import Frame
from tvm_bnn.lower.layout import WORD, Layout, padded_channels, words
from tvm_bnn.lower.matrix import BYTES, HALVES, multiplies, multiplies_bfloat16, multiplies_bits, sign_byte, tile_sums
from tvm_bnn.lower.reader import Reader
from tvm_bnn.lower.starts import starting_at
from tvm_bnn.lower.tally import (
    Table,
    Tally,
    different_bits_tally,
    equal_bits_tally,
    product_tally,
    start_of_different_bits,
    started_tally,
)
from tvm_bnn.lower.words import word
from tvm_bnn.relay_passes.borders import border_classes
from tvm_bnn.relay_passes.elementwise import ELEMENTWISE
from tvm_bnn.relay_passes.fold_constants import value_of
from tvm_bnn.relay_passes.phases import forward_weight
from tvm_bnn.relay_passes.readers import operands
from tvm_bnn.relay_passes.rewriter import dtype_of, op_name, shape_of

#: Columns of padding are left out where a register tile is a whole row, and a tap has the words for a loop of its own.
MOST_PIXELS, LEAST_WORDS = 7, 4


def pack_words(bits: np.ndarray) -> np.ndarray:
    """Pack bool [..., C] into uint32 [..., ceil(C/32)], channel c in bit c % 32 of word c // 32, zeros behind C."""
    widths = [(0, 0)] * (bits.ndim - 1) + [(0, words(bits.shape[-1]) * WORD - bits.shape[-1])]
    packed = np.packbits(np.pad(bits, widths), axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u4")


def pack_nibbles(bits: np.ndarray) -> np.ndarray:
    """Pack bool [..., C] into nibbles, uint8 [..., 8*ceil(C/32)] below 16, channel c in bit c % 4 of nibble c // 4."""
    pairs = pack_words(bits).view(np.uint8)
    return np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(*bits.shape[:-1], -1)


def block_filters(weight: np.ndarray, lanes: int) -> np.ndarray:
    """[O, KH, KW, C] -> [Op/L, KH, KW, C, L] with O padded to the stored channel count; L = min(lanes, Op)."""
    filters = len(weight)
    padded = np.pad(weight, [(0, padded_channels(filters) - filters)] + [(0, 0)] * 3)
    lanes = min(lanes, len(padded))
    blocked = padded.reshape(-1, lanes, *weight.shape[1:])
    return np.ascontiguousarray(np.moveaxis(blocked, 1, -1))


def _shared_frame(reader: Reader, call: relax.Call) -> Frame:
    """What all binary convolutions of the kernel read that read the same input with the same border."""
    own, pad_value = call.args[0], int(call.attrs["pad_value"])
    others = [reader.partition.definition[var] for var in reader.region.values] if reader.region is not None else []
    alike = [
        other
        for other in others
        if op_name(other) == "bnn.bconv2d" and other.args[0] == own and int(other.attrs["pad_value"]) == pad_value
    ]
    frames = [
        Frame.of(ops.BConv2DAttrs.from_call(each.attrs), shape_of(each.args[1])[2:], shape_of(each)[2:])
        for each in [call, *alike]
    ]
    return reduce(Frame.joined, frames)


def _family(groups: int) -> str:
    """Which tiles of a grouped convolution read which channels is no simple range, so its input is padded apart."""
    return "conv" if groups == 1 else "grouped_conv"


def window_sums(
    reader: Reader,
    shape: tuple[int, int, int, int],
    taps: tuple[int, int, int],
    read: Callable,
    weights: Callable,
    combine: Callable,
    groups: int = 1,
    rows: Callable | None = None,
    columns: Callable | None = None,
    start: Callable | None = None,
    attrs: Mapping[str, int] = MappingProxyType({}),
    name: str = "acc",
):
    """Stage [N, H, W, O padded]: sums of combine(read, weights) over (ky, kx, c), in that order.

    shape : (N, O, H, W) of the result. taps : rows and columns of the kernel, channels (words) of a group.
    read : (n, y, x, ky, kx, group, c) -> element; weights : (n, o, ky, kx, c) -> element.
    rows : y -> the first row of the kernel that counts, and the one behind the last; None where all do.
    columns : x -> the same of its columns; a tile then has to be a whole row.
    start : (n, y, x, o) -> where a sum begins; None: at 0. attrs : what else the stage tells its schedule.
    """
    batch, filters, height, width = shape
    ky, kx, kc = (reader.reduce_axis(extent, name) for extent, name in zip(taps, ("ky", "kx", "kc"), strict=True))
    per_group = filters // groups

    def accumulate(n, y, x, o):
        group = tirx.min(o // per_group, groups - 1) if groups > 1 else 0
        taken = read(n, y, x, ky.var, kx.var, group, kc.var)
        value = combine(taken, weights(n, o, ky.var, kx.var, kc.var))
        for counted, place, tap in ((columns, x, kx.var), (rows, y, ky.var)):
            if counted:
                first, last = counted(place)
                value = within(first, last, tap, value)
        return te.sum(value if start is None else starting_at(start(n, y, x, o), value), axis=[ky, kx, kc])

    shape = (batch, height, width, padded_channels(filters))
    return reader.compute(shape, accumulate, name, {**attrs, **({"whole_rows": 1} if columns else {})})


def bit_sums(
    reader: Reader,
    shape: tuple[int, int, int, int],
    taps: tuple[int, int, int],
    read: Callable,
    weights: Callable,
    target,
    groups: int = 1,
    rows: Callable | None = None,
    columns: Callable | None = None,
    start: Callable | None = None,
):
    """Stage ``acc`` of how many bits differ, counted as suits the target; arguments as of window_sums.

    weights : in units of the target's. start : where whole words are counted alone; sums are int32 then, else unsigned.
    """
    if unit(target, shape[1]) == HALF:
        dtype = counts_dtype(int(np.prod(taps)) * WORD)
        return different_halves(reader, shape, taps, read, weights, groups, rows, False, target, dtype)
    if counts_bytes(target, shape[1]):
        return different_bits(reader, shape, taps, read, weights, groups, rows)

    return word_sums(reader, shape, taps, read, weights, groups, rows, columns, start)


def word_sums(
    reader: Reader,
    shape: tuple[int, int, int, int],
    taps: tuple[int, int, int],
    read: Callable,
    weights: Callable,
    groups: int = 1,
    rows: Callable | None = None,
    columns: Callable | None = None,
    start: Callable | None = None,
    attrs: Mapping[str, int] = MappingProxyType({}),
    name: str = "acc",
):
    """Stage of how many bits of whole words differ, int32 where they start somewhere, else uint32; arguments as of
    window_sums.
    """

    def different(a, b):
        count = tirx.popcount(a ^ b)
        return count if start is None else count.astype("int32")

    return window_sums(reader, shape, taps, read, weights, different, groups, rows, columns, start, attrs, name)


def constant_weights(reader: Reader, weight: np.ndarray, lanes: int) -> Callable:
    """Weights [O, KH, KW, C] blocked by lanes, as a function of (n, o, ky, kx, c)."""
    blocked = block_filters(weight, lanes)
    values = reader.array(blocked, "weight")
    lanes = blocked.shape[-1]
    return lambda n, o, ky, kx, c: values(o // lanes, ky, kx, c, o % lanes)


def _in_plane(top: int, left: int, y, x, height: int, width: int, rows: int, columns: int):
    """Condition that a padded position lies on the input plane; None where it always does."""
    tests = []
    if top > 0:
        tests.append(y >= top)
    if rows > top + height:
        tests.append(y < top + height)
    if left > 0:
        tests.append(x >= left)
    if columns > left + width:
        tests.append(x < left + width)
    return tirx.all(*tests) if tests else None


def _bordered(inside, value, border):
    """The value, or what stands for it in the border."""
    return value if inside is None else tirx.if_then_else(inside, value, border)


def _taps_inside(geometry: ops.BConv2DAttrs, axis: int, kernel: int, size: int, count: int) -> Callable | None:
    """Which taps of an axis (0: rows, 1: columns) a sum counts, as position -> (first, the one behind the last).

    Those outside the plane are left out where they stand for zeros. None where all count.
    """
    before, step, dilation = geometry.padding[axis], geometry.strides[axis], geometry.dilation[axis]
    window = (count - 1) * step + (kernel - 1) * dilation + 1
    if geometry.pad_value != 0 or (before <= 0 and window <= before + size):
        return None

    def from_place(position, place: int):
        """The first tap at a position that is not before a place of the padded input: a quotient, rounded up.

        Written so that a position counts upwards in what is divided. TVM would make ``y % 2 // -2`` of
        ``-(y % 2) // 2``, and of that ``y // -2 % -1``, which is another number.
        """
        return tirx.min(tirx.max(-tirx.floordiv(position * step - place, dilation), 0), kernel)

    return lambda position: (from_place(position, before), from_place(position, before + size))


def _columns_inside(
    geometry: ops.BConv2DAttrs, kernel: int, size: int, count: int, words_of_tap: int, target
) -> Callable | None:
    """The same of columns, where a register tile is a whole row."""
    whole = target.popcount == "vpopcntdq" and count <= MOST_PIXELS and words_of_tap >= LEAST_WORDS
    return _taps_inside(geometry, 1, kernel, size, count) if whole and geometry.groups == 1 else None


def group_word(reader: Reader, data: relax.Expr, pixel: tuple, group, position, per_group: int):
    """Word ``position`` of the bits of one channel group, gathered from two neighbouring words if it straddles them."""
    if per_group % WORD == 0:
        return word(reader, data, pixel, group * (per_group // WORD) + position)
    start = group * per_group + position * WORD
    shift = tirx.floormod(start, WORD).astype("uint32")
    index = tirx.floordiv(start, WORD)
    last = words(shape_of(data)[1]) - 1
    low = word(reader, data, pixel, index) >> shift
    high = word(reader, data, pixel, tirx.min(index + 1, last))
    high = tirx.if_then_else(shift > 0, high << ((tirx.const(WORD, "uint32") - shift) & tirx.const(31, "uint32")), 0)
    left = tirx.min(tirx.const(per_group, "int32") - position * WORD, WORD)
    mask = tirx.const(0xFFFFFFFF, "uint32") >> (tirx.const(WORD, "int32") - left).astype("uint32")
    return (low | tirx.Cast("uint32", high)) & mask


def bconv2d(reader: Reader, call: relax.Call, target) -> Anchor:
    """Binary convolution of stored bits; the element is the exact integer sum (int32)."""
    data, weight = call.args[0], value_of(call.args[1])
    geometry = ops.BConv2DAttrs.from_call(call.attrs)
    batch, _, height, width = shape_of(data)
    filters, per_group, *kernel = weight.shape
    out = shape_of(call)[2:]
    group_words, groups = words(per_group), geometry.groups
    frame = _shared_frame(reader, call)
    (above, before), rows, columns = frame.first(geometry), frame.rows, frame.columns
    shared = (data, geometry.pad_value)
    padding_word = padding_words(geometry.pad_value, per_group)
    (sy, sx), (dy, dx) = geometry.strides, geometry.dilation
    if multiplies_bits(target, filters, out[1], groups):
        tally = _sums_of_products(reader, call, weight, geometry, frame)
        return Anchor(tally.count, "matrix_conv", tally=tally)

    def unpadded(n, y, x, c):
        pixel = (n, y - frame.top, x - frame.left)
        if groups == 1:
            return word(reader, data, pixel, c)
        return group_word(reader, data, pixel, c // group_words, c % group_words, per_group)

    def padded(n, y, x, c):
        inside = _in_plane(frame.top, frame.left, y, x, height, width, rows, columns)
        return _bordered(inside, unpadded(n, y, x, c), padding_word(c % group_words))

    counted_rows = _taps_inside(geometry, 0, kernel[0], height, out[0])
    counted_columns = _columns_inside(geometry, kernel[1], width, out[1], group_words, target)
    base, _ = base_of_sums(weight, geometry, (height, width), out, (counted_rows is None, counted_columns is None))
    if groups == 1 and counts_bytes(target, filters):
        acc = _sums_by_tables(
            reader, (batch, filters, *out), frame, weight, geometry, padded, target, counted_rows, shared
        )
        tally = different_bits_tally(acc, base, int(np.prod(weight.shape[1:])))
    else:
        source = padded
        if counted_columns is not None and reader.layout_of.get(data) is Layout.BITS:
            source = unpadded  # what does not count is not read
        elif any(geometry.padding) or groups > 1:
            size = (batch, rows, columns, groups * group_words)
            source = reader.once(shared, lambda: reader.compute(size, padded, "pad"))

        def read(n, y, x, ky, kx, group, c):
            row, column = y * sy + ky * dy + above, x * sx + kx * dx + before
            return source(n, row, column, group * group_words + c)

        if unit(target, filters) == HALF:
            side_by_side = source is not padded or reader.has_stored_words(data)
            tally = _sums_of_halves(reader, call, weight, geometry, read, target, counted_rows, side_by_side)
        else:
            tally = _sums_of_words(reader, call, weight, base, read, target, counted_rows, counted_columns)
    return Anchor(lambda index: tally.sum(reader.table, index), _family(groups), tally=tally)


def _words_of_taps(call: relax.Call, geometry: ops.BConv2DAttrs, inner: Callable, border: Callable) -> Callable:
    """(n, y, x, ky, kx, position) -> the word that a tap of a pixel reads.

    inner : ((n, y, x), position) -> word of the input; border : position -> word that stands for padding.
    """
    (height, width), kernel = shape_of(call.args[0])[2:], shape_of(call.args[1])[2:]
    frame = Frame.of(geometry, kernel, shape_of(call)[2:])
    (sy, sx), (dy, dx), (top, left) = geometry.strides, geometry.dilation, geometry.padding[:2]

    def read(n, y, x, ky, kx, position):
        row, column = y * sy + ky * dy, x * sx + kx * dx
        inside = _in_plane(top, left, row, column, height, width, frame.rows, frame.columns)
        return _bordered(inside, inner((n, row - top, column - left), position), border(position))

    return read


def bconv2d_on_tensor_cores(reader: Reader, call: relax.Call, target) -> Anchor:
    """Binary convolution of stored bits, in no groups, as a product of matrices of bits."""
    data, weight = call.args[0], value_of(call.args[1])
    geometry = ops.BConv2DAttrs.from_call(call.attrs)
    padding_word = padding_words(geometry.pad_value, weight.shape[1])
    read = _words_of_taps(call, geometry, lambda pixel, c: word(reader, data, pixel, c), padding_word)
    packed, terms = pack_words(weight.transpose(0, 2, 3, 1)), int(np.prod(weight.shape[1:]))
    height, width = shape_of(data)[2:]
    base, _ = base_of_sums(weight, geometry, (height, width), shape_of(call)[2:], (True, True))
    tally = tensor_core.tally_of_products(reader, shape_of(call), read, packed, base, terms, target.gpu.product)
    return Anchor(lambda index: tally.sum(reader.table, index), "tensor_conv", tally=tally)


def _sums_of_products(
    reader: Reader, call: relax.Call, weight: np.ndarray, geometry: ops.BConv2DAttrs, frame: Frame
) -> Tally:
    """Stages of sums of products of signs on a matrix unit."""
    data, (batch, filters, *out) = call.args[0], shape_of(call)
    height, width = shape_of(data)[2:]
    sums = tile_sums(
        reader,
        (batch, filters, out[0], out[1]),
        frame,
        np.where(weight, 1, -1).astype(np.int8).transpose(0, 2, 3, 1),
        lambda n, y, x, c: sign_of(reader, data, (n, y - frame.top, x - frame.left), c),
        lambda y, x, *size: _in_plane(frame.top, frame.left, y, x, height, width, *size),
        width,
        geometry.pad_value,
        geometry,
        runs=False,
        shared=(data, geometry.pad_value),
    )
    return product_tally(sums, int(np.prod(weight.shape[1:])))


def _sums_of_words(
    reader: Reader,
    call: relax.Call,
    weight: np.ndarray,
    base: Table,
    read: Callable,
    target,
    counted_rows: Callable | None,
    counted_columns: Callable | None,
) -> Tally:
    """Stage ``acc`` of how many bits differ, in whole words; where each word's count is added as it comes, and base is
    even, it begins so that nothing but the factor is left to do behind it.

    read, counted_rows, counted_columns : as of window_sums.
    """
    (batch, _, *out), (filters, per_group, *kernel) = shape_of(call), weight.shape
    begins = target.gpu is None and not counts_bytes(target, filters)
    start = start_of_different_bits(base) if begins else None
    acc = bit_sums(
        reader,
        (batch, filters, out[0], out[1]),
        (kernel[0], kernel[1], words(per_group)),
        read,
        constant_weights(reader, pack_words(weight.transpose(0, 2, 3, 1)), target.lanes32),
        target,
        int(call.attrs["groups"]),
        counted_rows,
        counted_columns,
        None if start is None else (lambda n, y, x, o: reader.table(start, (n, o, y, x))),
    )
    terms = int(np.prod(weight.shape[1:]))
    return different_bits_tally(acc, base, terms) if start is None else started_tally(acc, terms)


def _sums_of_halves(
    reader: Reader,
    call: relax.Call,
    weight: np.ndarray,
    geometry: ops.BConv2DAttrs,
    read: Callable,
    target,
    counted: Callable | None,
    side_by_side: bool,
) -> Tally:
    """Stage ``acc`` of how many bits are equal, counted in halves of words.

    read : as of window_sums, words. counted : ``rows`` of it. side_by_side : whether the words of a pixel, and the
    pixels of a row, lie so.
    """
    (batch, _, *out), (filters, _, height, width) = shape_of(call), weight.shape
    held, taps = words(weight.shape[1]), int(np.prod(weight.shape[1:]))
    along = side_by_side and geometry.dilation[1] == 1 and geometry.groups == 1
    # columns of the kernel that lie side by side are more channels: longer runs
    window = (height, 1, width * held) if along else (height, width, held)
    size = shape_of(call.args[0])[2:]
    base, visited = base_of_sums(weight, geometry, (size[0], size[1]), tuple(out), (counted is None, True))
    start, tally_of = equal_bits_tally(base, visited, taps)

    def read_run(n, y, x, ky, kx, group, c):
        return read(n, y, x, ky, kx + c // held, group, c % held) if along else read(n, y, x, ky, kx, group, c)

    acc = different_halves(
        reader,
        (batch, filters, out[0], out[1]),
        window,
        read_run,
        constant_weights(
            reader,
            pack_words(~weight.transpose(0, 2, 3, 1)).view("<u2").reshape(filters, *window[:2], -1),
            unit_lanes(target, filters, out[1]),
        ),
        geometry.groups,
        counted,
        side_by_side,
        target,
        str(start.values.dtype),
        lambda n, y, x, o: reader.table(start, (n, o, y, x)),
    )
    return tally_of(acc)


def _sums_by_tables(
    reader: Reader,
    shape: tuple[int, int, int, int],
    frame: Frame,
    weight: np.ndarray,
    geometry: ops.BConv2DAttrs,
    padded: Callable,
    target,
    counted: Callable | None,
    shared: tuple,
):
    """Stage ``acc`` of how many bits differ, looked up in tables; stage ``pad`` has what chooses them.

    shape : (N, O, H, W) of the result. frame : of the padded input. padded : (n, y, x, position) -> word.
    counted : ``rows`` of window_sums. shared : what the stage ``pad`` is known by.
    """
    nibbles = pack_nibbles(weight.transpose(0, 2, 3, 1))
    filters, height, width, held = nibbles.shape
    (sy, sx), (dy, dx), (above, before) = geometry.strides, geometry.dilation, frame.first(geometry)
    # columns of the kernel that lie side by side are more channels: fewer, longer blocks
    taps = (height, 1, width * held) if dx == 1 else (height, width, held)

    def spread(n, y, x, k):
        word, shift = padded(n, y, x, k // NIBBLES), tirx.Cast("uint32", k % NIBBLES * 4)
        return tirx.Cast("uint8", (word >> shift) << tirx.const(4, "uint32"))

    tables = reader.once(shared, lambda: reader.compute((shape[0], frame.rows, frame.columns, held), spread, "pad"))
    return different_nibbles(
        reader,
        shape,
        taps,
        lambda n, y, x, ky, kx, _group, k: tables(
            n, y * sy + ky * dy + above, x * sx + kx * dx + before + k // held, k % held
        ),
        constant_weights(reader, nibbles.reshape(filters, *taps), byte_lanes(target, filters)),
        byte_lanes(target, filters),
        counted,
    )


def sign_of(reader: Reader, data: relax.Expr, pixel: tuple, channel):
    """+1 or -1 as int8: a bit of a word, or a predicate that the kernel itself computes."""
    if reader.is_member(data):
        n, y, x = pixel
        one, minus_one = tirx.const(1, "int8"), tirx.const(-1, "int8")
        return tirx.Select(reader.element(data, (n, channel, y, x)), one, minus_one)
    position = tirx.min(channel // WORD, words(shape_of(data)[1]) - 1)  # weights behind the last channel are 0
    return sign_byte(word(reader, data, pixel, position), channel % WORD)


def multiplied(call: relax.Call, target, definition: Mapping[relax.Var, relax.Expr]) -> bool:
    """Whether a convolution goes to a matrix unit: of bits or bytes, or of bfloat16 where it multiplies those.

    definition : what the variables are bound to.
    """
    _, filters, _, width = shape_of(call)
    if op_name(call) == "bnn.bconv2d":
        return multiplies_bits(target, filters, width, int(call.attrs["groups"]))
    halves = op_name(definition.get(call.args[0])) == "bnn.bfloat16" and multiplies_bfloat16(target)
    return (halves or dtype_of(call.args[0]) == "int8") and multiplies(target, filters, width, int(call.attrs.groups))


def padding_words(pad_value: int, per_group: int):
    """The word that stands for a padded pixel: bits 1 for +1 (only in valid channels), bits 0 for -1 and for 0."""
    full, rest = divmod(per_group, WORD)

    def padding_word(position):
        if pad_value != 1:
            return tirx.const(0, "uint32")
        ones, tail = tirx.const(0xFFFFFFFF, "uint32"), tirx.const((1 << rest) - 1, "uint32")
        return tirx.Select(position < full, ones, tail) if rest else ones

    return padding_word


def base_of_sums(
    weight: np.ndarray,
    geometry: ops.BConv2DAttrs,
    size: tuple[int, int],
    out: tuple[int, ...],
    outside: tuple[bool, bool],
) -> tuple[Table, Table]:
    """K, plus what zero padding takes back, per filter and border class; and the number of terms that are visited.

    outside : whether sums count the rows, and the columns, of taps that lie outside.
    """
    taps = int(np.prod(weight.shape[1:]))
    if geometry.pad_value != 0 or not any(geometry.padding):
        return Table.of_number(taps), Table.of_number(taps)
    per_tap = np.where(weight, 1, -1).sum(axis=1)
    (row_class, row_masks), (column_class, column_masks) = (
        border_classes(size[a], weight.shape[2 + a], geometry.strides[a], geometry.dilation[a], before, out[a])
        for a, before in ((0, geometry.padding[0]), (1, geometry.padding[1]))
    )
    inside = np.einsum("ry,cx->rcyx", np.stack(row_masks), np.stack(column_masks))
    terms = np.einsum("ry,cx->rcyx", np.stack(row_masks) | outside[0], np.stack(column_masks) | outside[1])
    visited = weight.shape[1] * terms.sum(axis=(2, 3))
    values = visited + np.einsum("oyx,rcyx->orc", per_tap, ~inside & terms)
    classes = tuple(row_class), tuple(column_class)
    return Table(values.astype(np.int32), *classes), Table(visited[None].astype(np.int32), *classes)


def _is_planar(reader: Reader, expr: relax.Expr) -> bool:
    """Whether a value is read from a tensor that keeps its planes apart (an argument in PyTorch's layout)."""
    if not isinstance(expr, relax.Var) or expr in reader.layout_of or expr in reader.stages:
        return isinstance(expr, relax.Var) and reader.layout_of.get(expr) is Layout.PLAIN
    call = reader.partition.definition[expr]
    whole = [o for o in operands(call) if shape_of(o) == shape_of(expr)] if op_name(call) in ELEMENTWISE else []
    return len(whole) == 1 and _is_planar(reader, whole[0])


def _padded_source(reader: Reader, data, shape: tuple[int, ...], element, planar: bool):
    """A stage with the padded input, in the order of its source; returns a function of (n, y, x, c)."""
    batch, channels, rows, columns = shape
    if planar:
        stage = reader.compute((batch, channels, rows, columns), lambda n, c, y, x: element(n, y, x, c), "pad")
        return lambda n, y, x, c: stage(n, c, y, x)
    stage = reader.compute((batch, rows, columns, channels), element, "pad")
    return lambda n, y, x, c: stage(n, y, x, c)


def conv2d(reader: Reader, call: relax.Call, target) -> Anchor:
    """Convolution of floats, of bytes into int32, or of rounded floats, with constant weights."""
    product = tensor_core.product_of(call, target, reader.partition.definition)
    if product is not None:
        return conv2d_on_tensor_cores(reader, call, product)
    data, weight = call.args[0], value_of(call.args[1]).transpose(0, 2, 3, 1)
    geometry = ops.BConv2DAttrs.from_conv2d(call.attrs)
    batch, channels, height, width = shape_of(data)
    out, dtype = shape_of(call)[2:], dtype_of(data)
    filters, *kernel, per_group = weight.shape
    frame = Frame.of(geometry, (kernel[0], kernel[1]), out)
    rows, columns = frame.rows, frame.columns
    (sy, sx), (dy, dx) = geometry.strides, geometry.dilation
    top, left, _, _ = geometry.padding

    def element(n, y, x, c):
        return reader.element(data, (n, c, y - top, x - left))

    def inside(y, x, rows, columns):
        return _in_plane(top, left, y, x, height, width, rows, columns)

    if multiplied(call, target, reader.partition.definition):
        kind = HALVES if dtype == "float32" else BYTES
        sums = tile_sums(
            reader,
            (batch, filters, *out),
            frame,
            kind.elements(weight),
            lambda *i: kind.element(element(*i)),
            inside,
            width,
            0,
            geometry,
            kind,
        )
        return Anchor(lambda index: sums(index[0], index[2], index[3], index[1]), "matrix_conv")

    sums = "float32" if dtype == "float32" or _fits_float32(weight) else "int32"

    def padded(n, y, x, c):
        valid = inside(y, x, rows, columns)
        return _bordered(valid, element(n, y, x, c).astype(sums), tirx.const(0, sums))

    planar = _is_planar(reader, data)
    if sums == "float32" and few_filters.suits(reader, weight, geometry, out[1], target):
        anchor = few_filters.sums(
            reader, (batch, filters, *out), (rows, columns), weight.astype(sums), geometry, padded, planar
        )
        return Anchor(lambda index: anchor.element(index).astype(dtype_of(call)), anchor.family)
    computed = isinstance(data, relax.Var) and data not in reader.layout_of and data not in reader.stages
    if any(geometry.padding) or planar or computed or dtype == "int8":
        source = _padded_source(reader, data, (batch, channels, rows, columns), padded, planar)
    else:
        source = padded
    acc = window_sums(
        reader,
        (batch, filters, *out),
        (kernel[0], kernel[1], per_group),
        lambda n, y, x, ky, kx, group, c: source(n, y * sy + ky * dy, x * sx + kx * dx, group * per_group + c),
        constant_weights(reader, weight.astype(sums), target.lanes32),
        operator.mul,
        geometry.groups,
        attrs={"products": 1},
    )
    result = dtype_of(call)
    family = _family(geometry.groups)
    return Anchor(lambda index: acc(index[0], index[2], index[3], index[1]).astype(result), family)


def conv2d_on_tensor_cores(reader: Reader, call: relax.Call, product: Product) -> Anchor:
    """Convolution of bytes or rounded floats, in no groups, as a product of matrices."""
    data, weight = call.args[0], value_of(call.args[1]).transpose(0, 2, 3, 1)
    geometry, kind = ops.BConv2DAttrs.from_conv2d(call.attrs), tensor_core.NUMBERS[product.operands]
    channels = shape_of(data)[1]

    def element(pixel: tuple, channel):
        n, y, x = pixel
        value = kind.element(reader.element(data, (n, channel, y, x)))
        if channels % kind.per_word == 0:
            return value
        return tirx.if_then_else(channel < channels, value, tirx.const(0, kind.dtype))

    def word_of_numbers(pixel: tuple, position):
        return kind.word([element(pixel, position * kind.per_word + place) for place in range(kind.per_word)])

    read = _words_of_taps(call, geometry, word_of_numbers, lambda position: tirx.const(0, "uint32"))
    made = tensor_core.sums_of_products(reader, shape_of(call), read, kind.words(weight), product)
    return Anchor(lambda index: made(index).astype(dtype_of(call)), "tensor_conv")


def _fits_float32(weight: np.ndarray) -> bool:
    """Whether float32 holds every partial sum of products of int8 with these filters [O, ...], all below 2**24.

    Every processor multiplies and adds vectors of floats, few have as much for integers.
    """
    most = np.abs(weight.astype(np.int64)).sum(axis=tuple(range(1, weight.ndim))).max()
    return 128 * int(most) <= 1 << 24


def extended(call: relax.Call, above: int, rows: int) -> relax.Call:
    """A float convolution of so many rows (or more), the first so many rows above the call's; none in groups."""
    geometry = ops.BConv2DAttrs.from_conv2d(call.attrs)
    (top, left, bottom, right), step = geometry.padding, geometry.strides[0]
    below = max(rows - above - shape_of(call)[2], 0)
    padding = (top + above * step, left, bottom + below * step, right)
    made = relax.op.nn.conv2d(*call.args, geometry.strides, padding, geometry.dilation, out_dtype=dtype_of(call))
    return relax.BlockBuilder().normalize(made)


def conv2d_transpose(reader: Reader, call: relax.Call, target) -> Anchor:
    """Float transposed convolution: a convolution of the zero-stuffed input, taps in (ky, kx, c) order.

    ``out[y] = sum over ky of in[(y + pad - ky*d) / s] * w[ky]`` where the division is exact and inside; in terms of
    a stuffed input ``u[s*i] = in[i]`` it is ``u[y + pad - ky*d]``.
    """
    data, weight = call.args[0], value_of(call.args[1])
    attrs = call.attrs
    batch, channels, height, width = shape_of(data)
    out = shape_of(call)[2:]
    _, per_group_out, kh, kw = weight.shape
    groups = int(attrs.groups)
    (sy, sx), (dy, dx) = ([int(v) for v in values] for values in (attrs.strides, attrs.dilation))
    top, left = int(attrs.padding[0]), int(attrs.padding[1])
    reach_y, reach_x = (kh - 1) * dy, (kw - 1) * dx  # u[-reach ...] is read
    rows, columns = out[0] + reach_y, out[1] + reach_x

    def stuffed(n, y, x, c):
        row, column = y - reach_y + top, x - reach_x + left
        inside = tirx.all(
            row >= 0, row < (height - 1) * sy + 1, column >= 0, column < (width - 1) * sx + 1,
            tirx.EQ(tirx.floormod(row, sy), 0), tirx.EQ(tirx.floormod(column, sx), 0),
        )  # fmt: skip
        value = reader.element(data, (n, c, tirx.floordiv(row, sy), tirx.floordiv(column, sx)))
        return tirx.if_then_else(inside, value, tirx.const(0.0, "float32"))

    stage = reader.compute((batch, rows, columns, channels), stuffed, "pad")
    per_group = channels // groups
    acc = window_sums(
        reader,
        (batch, groups * per_group_out, *out),
        (kh, kw, per_group),
        lambda n, y, x, ky, kx, group, c: stage(n, y + reach_y - ky * dy, x + reach_x - kx * dx, group * per_group + c),
        constant_weights(
            reader, forward_weight(weight, groups).transpose(0, 2, 3, 1).astype(np.float32), target.lanes32
        ),
        operator.mul,
        groups,
    )
    return Anchor(lambda index: acc(index[0], index[2], index[3], index[1]), _family(groups))
