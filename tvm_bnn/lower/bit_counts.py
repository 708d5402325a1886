"""Counting different bits: the accumulators of every binary sum.

A processor that counts the bits of a whole word at once (VPOPCNTDQ) adds the counts as they come: stage ``acc``.

``different_halves``: one that counts in bytes, and adds pairs of them to numbers of 16 bits in one instruction (NEON's
CNT and UADALP; in 32 bits VPADAL, `steps_of_sums`), does as much with halves of words. A filter then has 16 bits of a
vector, which hold its whole sum:

    acc[...] = sum over the halves of words of popcount(x ^ w)

is three instructions for 128 bits, as many as with words, and none to widen sums or to add up parts of them. Weights
that are constant are stored as their complements, so that equal bits are counted, and sums begin at what padding takes
back: what is left to do behind them is to double (`tally.equal_bits_tally`).

Others count within bytes, and widening a byte costs about as much as counting in it. So bytes are added up first, as
many as surely fit, in stage ``counts``; only then they are widened and added to ``acc``. There are two ways:

``different_bits``: the bits of each byte of a word are counted, four counters side by side:

    counts[..., r] = sum over the words of block r of byte_counts(x ^ w)          r: at most 31 words
    acc[...]       = sum over r of the four bytes of counts[..., r]

``different_nibbles``: where bytes are counted by a table of 16 entries anyway (AVX2), the activation chooses the table
and the weight the entry. No ``xor``, mask or shift is left, and each filter has a byte to itself:

    counts[..., r] = sum over the nibbles of block r of table[x][w]               r: at most 63 nibbles
    acc[...]       = sum over r of counts[..., r]

which takes 4 instructions for 256 bits (``vpshufb`` and ``vpaddb``, twice) where counting bytes takes 8. For it,
weights are stored as a nibble a byte, and the rows of input are spread to bytes where they are copied.

``bnn.byte_counts``, ``bnn.table_entry`` and ``bnn.half`` are scalar operators that vectorise like any other.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from tvm import te, tirx

from tvm_bnn.lower.bounds import within
from tvm_bnn.lower.layout import WORD, padded_channels
from tvm_bnn.lower.operator import register
from tvm_bnn.lower.reader import Reader
from tvm_bnn.lower.starts import starting_at

#: Words, or nibbles, whose bits a byte can count: 31 * 8 and 63 * 4 are below 256.
MOST_WORDS, MOST_NIBBLES = 31, 63
#: Nibbles of a word, and entries of a table.
NIBBLES, ENTRIES = WORD // 4, 16
#: Bits of a half of a word, and filters of a vector that has as much of each.
HALF = WORD // 2
HALF_LANES = 8
#: Words of which an odd number is read at once, at most; vectors of weights that are loaded in pairs: those in 1 KiB.
_MOST_ODD, _PAIRED = 7, 64
#: Registers that hold a tile and the weights of several words.
_AHEAD = 32
_BYTE_COUNTS, _TABLE_ENTRY, _HALF = "bnn.byte_counts", "bnn.table_entry", "bnn.half"
#: Bytes of a vector -> the instruction that looks each of them up in its sixteen neighbours.
_SHUFFLES = {32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}


def _lower_byte_counts(call):
    """Count the bits of each byte: 32-bit lanes seen as four times as many bytes."""
    (words,), dtype = call.args, str(call.ty.dtype)
    lanes = int(dtype.partition("x")[2] or 1)
    return tirx.reinterpret(dtype, tirx.popcount(tirx.reinterpret(f"uint8x{4 * lanes}", words)))


def _lower_table_entry(call):
    """A shuffle of bytes, whose lanes share a table; a load, where nothing was vectorized."""
    first, index = call.args
    if not isinstance(first, tirx.Broadcast):
        return tirx.BufferLoad(first.source, [first.indices[0] + index.astype("int32")])
    lanes, load = int(first.lanes), first.value
    table = tirx.BufferLoad(load.source, [tirx.Ramp(load.indices[0], tirx.const(1, "int32"), ENTRIES)])
    tables = tirx.Shuffle([table] * (lanes // ENTRIES), [tirx.const(i, "int32") for i in range(lanes)])
    return tirx.call_llvm_pure_intrin(str(call.ty.dtype), _SHUFFLES[lanes], tables, index)


def _lower_half(call):
    """A lane of several words that are read as a vector; a shift, where which one is not known or words lie apart."""
    first, word, which, together = call.args
    lanes = int(str(call.ty.dtype).partition("x")[2] or 1)
    if lanes == 1 and isinstance(which, tirx.IntImm) and int(together) > 1:
        begin, size = _vector_of(int(which) // 2, int(together))
        words = tirx.BufferLoad(first.source, [_side_by_side(first.indices[0] + begin, size)])
        return tirx.Shuffle([tirx.reinterpret(f"uint16x{2 * size}", words)], [which - 2 * begin])
    shift = (which % 2 * HALF).astype(str(word.ty.dtype))
    return (word >> shift).astype(str(call.ty.dtype))


def _vector_of(position: int, together: int) -> tuple[int, int]:
    """Beginning and size of the vector, a power of two, that has one of several words: the largest ones come first."""
    begin = 0
    while True:
        size = 1 << ((together - begin).bit_length() - 1)
        if position < begin + size:
            return begin, size
        begin += size


def _side_by_side(first, count: int):
    return tirx.Ramp(first, tirx.const(1, "int32"), count) if count > 1 else first


register(_BYTE_COUNTS, 1, _lower_byte_counts)
register(_TABLE_ENTRY, 2, _lower_table_entry)
register(_HALF, 4, _lower_half)


def byte_counts(words):
    """The number of ones in each byte of a 32-bit word, in that byte."""
    return tirx.call_intrin("uint32", _BYTE_COUNTS, words)


def table_entry(first, index):
    """Entry ``index`` (uint8, below 16) of the table whose first entry the load ``first`` reads; uint8."""
    return tirx.call_intrin("uint8", _TABLE_ENTRY, first, index)


def half(first, word, which, together: int):
    """Half ``which`` (the lower one of the first word is 0) of so many words that lie side by side, uint16.

    first : load of the first of the words. word : load of the one with that half.
    """
    return tirx.call_intrin("uint16", _HALF, first, word, which, together)


def sum_of_bytes(words):
    """The sum of the four bytes of a word."""
    pairs, low = tirx.const(0x00FF00FF, "uint32"), tirx.const(0xFFFF, "uint32")
    halves = (words & pairs) + ((words >> tirx.const(8, "uint32")) & pairs)
    return (halves & low) + (halves >> tirx.const(16, "uint32"))


def unit(target, filters: int) -> int:
    """Bits of which a filter's are counted at once, and its weights are stored: of a word, or of half of one."""
    return HALF if target.popcount == "cnt" and padded_channels(filters) >= WORD else WORD


def counts_dtype(terms: int) -> str:
    """Of as many counted bits, where halves of words are counted."""
    return "uint16" if terms < 1 << 16 else "uint32"


def half_tile(width: int, filters: int, target, packs: bool = False) -> tuple[int, int]:
    """Pixels and vectors of a register tile in which halves of words are counted: the least work.

    width : pixels of a row. filters : padded. packs : a tile must have whole words.

    Each accumulator takes three instructions a step, a pixel one and an eighth of a load, a vector of weights half a
    load, of two; on a processor that takes them in their order such a load takes as long as two others. Registers hold
    accumulators, eight steps of each pixel and one of them in all lanes, a pair of weights and what becomes of them.
    """
    blocks, load = filters // HALF_LANES, 2 if target.in_order else 1
    least = WORD // HALF_LANES if packs else 1

    def work(tile: tuple[int, int]) -> float:
        pixels, vectors = tile
        return (pixels + load * (vectors / 2 + pixels / 8)) / (pixels * vectors)

    return min(
        (
            (pixels, vectors)
            for vectors in range(least, min(blocks, target.registers) + 1, least)
            for pixels in range(1, width + 1)
            if blocks % vectors == 0 and width % pixels == 0 and pixels * (vectors + 2) + 4 <= target.registers
        ),
        key=work,
    )


def unit_lanes(target, filters: int, width: int) -> int:
    """Filters whose weights lie side by side: those of a vector, or of a tile whose loads of weights come in pairs."""
    if unit(target, filters) == WORD:
        return int(target.lanes32)
    return max(half_tile(width, padded_channels(filters), target)[1] * HALF_LANES, WORD)


def _words_together(held: int, vectors: int, most: int) -> int:
    """How many words are read at once, of so many side by side: an even number if there is one.

    vectors : of weights, for each half of a word. most : if anything else can be had than a single word.
    """
    divisors = [count for count in range(1, max(most, 1) + 1) if held % count == 0]
    paired = _PAIRED // 2 // max(vectors, WORD // HALF_LANES)
    even = [count for count in divisors if count % 2 == 0 and count <= paired]
    return max(even, default=max(count for count in divisors if count <= _MOST_ODD))


def counts_bytes(target, filters: int) -> bool:
    """Whether bits are counted by bytes, with constant weights by tables: where words cannot be, and there are whole
    vectors of filters.
    """
    return target.popcount == "nibble" and padded_channels(filters) >= WORD


def byte_lanes(target, filters: int) -> int:
    """Filters of a vector of bytes."""
    widest = target.vector_bits // 8
    return widest if padded_channels(filters) % widest == 0 else WORD


def blocks(taps: tuple[int, int, int], most: int) -> tuple[int, int, int]:
    """Into how many blocks rows, columns and channels of a window are cut, of at most ``most`` terms each."""
    height, width, words = taps
    if height * width * words <= most:
        return 1, 1, 1
    if width * words <= most:
        return height, 1, 1
    parts = next(p for p in range(1, words + 1) if words % p == 0 and words // p <= most)
    return height, width, parts


def different_halves(
    reader: Reader,
    shape: tuple[int, int, int, int],
    taps: tuple[int, int, int],
    read: Callable,
    weights: Callable,
    groups: int,
    rows: Callable | None,
    together: bool,
    target,
    dtype: str,
    start: Callable | None = None,
    name: str = "acc",
    attrs: Mapping[str, int] = MappingProxyType({}),
):
    """A stage of a window's sum of popcount(read ^ weights); arguments as of window_sums, but read gives words, weights
    their halves.

    together : whether the words of a pixel (or, with one column of taps, of a row of them) lie side by side.
    dtype : that holds the sum. start : (n, y, x, o) -> where the sum begins, a load or a number; None: at 0.
    attrs : what else the stage tells its schedule.
    """
    batch, filters, height, width = shape
    per_group, (ky_extent, kx_extent, held) = filters // groups, taps
    vectors = half_tile(width, padded_channels(filters), target)[1]
    # a loop remains: else LLVM would keep all weights of a tile for the next, which registers cannot hold
    once = ky_extent * kx_extent == 1
    several = together and target.registers >= _AHEAD  # else LLVM loads weights ahead, and spills
    size = _words_together(held, vectors, held // 2 if once else held) if several else 1
    extents = {"ky": ky_extent, "kx": kx_extent * held // size, "kc": 2 * size}
    axes = [reader.reduce_axis(extent, name) for name, extent in extents.items()]
    ky, block, part = (axis.var for axis in axes)

    def add_halves(n, y, x, o):
        group = tirx.min(o // per_group, groups - 1) if groups > 1 else 0
        kx, first = block // (held // size), block % (held // size) * size
        begin, own = (read(n, y, x, ky, kx, group, place) for place in (first, first + part // 2))
        different = half(begin, own, part, size) ^ weights(n, o, ky, kx, 2 * first + part)
        value = tirx.popcount(different).astype(dtype)
        if rows:
            top, bottom = rows(y)
            value = within(top, bottom, ky, value)
        return te.sum(value if start is None else starting_at(start(n, y, x, o), value), axis=axes)

    shape = (batch, height, width, padded_channels(filters))
    return reader.compute(shape, add_halves, name, {"lanes": HALF_LANES, "unrolled": 1, **attrs})


def different_bits(
    reader: Reader,
    shape: tuple[int, int, int, int],
    taps: tuple[int, int, int],
    read: Callable,
    weights: Callable,
    groups: int,
    rows: Callable | None = None,
):
    """Stages ``counts`` and ``acc`` of a window's sum of popcount(read ^ weights); arguments as of window_sums."""
    return _sums_of_blocks(
        reader, shape, taps, read, weights, groups, rows, lambda x, w: byte_counts(x ^ w), sum_of_bytes, MOST_WORDS
    )


def different_nibbles(
    reader: Reader,
    shape: tuple[int, int, int, int],
    taps: tuple[int, int, int],
    read: Callable,
    weights: Callable,
    lanes: int,
    rows: Callable | None,
):
    """The same of nibbles: read gives 16 * nibble, weights a nibble, both uint8; taps has nibbles.

    lanes : filters that share a vector of bytes, as the weights are blocked. ``acc`` is uint16 where the sum fits.
    """
    numbers = range(ENTRIES)
    counts = np.array([(x ^ w).bit_count() for x in numbers for w in numbers], np.uint8)
    table = reader.array(counts, "table")
    dtype = "uint16" if 4 * math.prod(taps) < 1 << 16 else "uint32"
    return _sums_of_blocks(
        reader,
        shape,
        taps,
        read,
        weights,
        1,
        rows,
        lambda x, w: table_entry(table(x.astype("int32")), w),
        lambda count: count.astype(dtype),
        MOST_NIBBLES,
        {"lanes": lanes},
    )


def _sums_of_blocks(
    reader: Reader,
    shape: tuple[int, int, int, int],
    taps: tuple[int, int, int],
    read: Callable,
    weights: Callable,
    groups: int,
    rows: Callable | None,
    term: Callable,
    widen: Callable,
    most: int,
    attrs: dict[str, int] | None = None,
):
    """Stages ``counts`` (with attrs), sums of at most ``most`` term(read, weights), and ``acc``, these widened."""
    batch, filters, height, width = shape
    per_group, padded = filters // groups, padded_channels(filters)
    cut = blocks(taps, most)
    whole = [extent // parts for extent, parts in zip(taps, cut, strict=True)]
    inner = [reader.reduce_axis(extent, name) for extent, name in zip(whole, ("ky", "kx", "kc"), strict=True)]
    count = cut[0] * cut[1] * cut[2]

    def add_terms(n, y, x, o, r):
        group = tirx.min(o // per_group, groups - 1) if groups > 1 else 0
        place = r // (cut[1] * cut[2]), r // cut[2] % cut[1], r % cut[2]
        ky, kx, kc = (block * extent + axis.var for block, extent, axis in zip(place, whole, inner, strict=True))
        value = term(read(n, y, x, ky, kx, group, kc), weights(n, o, ky, kx, kc))
        if rows and cut[0] == 1:
            first, last = rows(y)
            value = within(first, last, ky, value)
        return te.sum(value, axis=inner)

    counts = reader.compute((batch, height, width, padded, count), add_terms, "counts", attrs)
    block = reader.reduce_axis(count, "r")

    def add_blocks(n, y, x, o):
        value = widen(counts(n, y, x, o, block.var))
        if rows and cut[0] > 1:
            first, last = (ky * (cut[1] * cut[2]) for ky in rows(y))
            value = within(first, last, block.var, value)
        return te.sum(value, axis=block)

    return reader.compute((batch, height, width, padded), add_blocks, "acc")
