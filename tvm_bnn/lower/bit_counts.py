"""Counting different bits: the accumulators of every binary sum.

A processor that counts the bits of a whole word at once (VPOPCNTDQ) adds the counts as they come: stage ``acc``. Others
count within bytes, and widening a byte costs about as much as counting in it. So bytes are added up first, as many as
surely fit, in stage ``counts``; only then they are widened and added to ``acc``. There are two ways:

``different_bits``: the bits of each byte of a word are counted, four counters side by side (NEON):

    counts[..., r] = sum over the words of block r of byte_counts(x ^ w)          r: at most 31 words
    acc[...]       = sum over r of the four bytes of counts[..., r]

``different_nibbles``: where bytes are counted by a table of 16 entries anyway (AVX2), the activation chooses the table
and the weight the entry. No ``xor``, mask or shift is left, and each filter has a byte to itself:

    counts[..., r] = sum over the nibbles of block r of table[x][w]               r: at most 63 nibbles
    acc[...]       = sum over r of counts[..., r]

which takes 4 instructions for 256 bits (``vpshufb`` and ``vpaddb``, twice) where counting bytes takes 8. For it,
weights are stored as a nibble a byte, and the rows of input are spread to bytes where they are copied.

``bnn.byte_counts`` and ``bnn.table_entry`` are scalar operators that vectorise like any other.
"""

import math
from collections.abc import Callable

import numpy as np
from tvm import te, tirx

from tvm_bnn.lower.bounds import within
from tvm_bnn.lower.layout import WORD, padded_channels
from tvm_bnn.lower.operator import register
from tvm_bnn.lower.reader import Reader

#: Words, or nibbles, whose bits a byte can count: 31 * 8 and 63 * 4 are below 256.
MOST_WORDS, MOST_NIBBLES = 31, 63
#: Nibbles of a word, and entries of a table.
NIBBLES, ENTRIES = WORD // 4, 16
_BYTE_COUNTS, _TABLE_ENTRY = "bnn.byte_counts", "bnn.table_entry"
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


register(_BYTE_COUNTS, 1, _lower_byte_counts)
register(_TABLE_ENTRY, 2, _lower_table_entry)


def byte_counts(words):
    """The number of ones in each byte of a 32-bit word, in that byte."""
    return tirx.call_intrin("uint32", _BYTE_COUNTS, words)


def table_entry(first, index):
    """Entry ``index`` (uint8, below 16) of the table whose first entry the load ``first`` reads; uint8."""
    return tirx.call_intrin("uint8", _TABLE_ENTRY, first, index)


def sum_of_bytes(words):
    """The sum of the four bytes of a word."""
    pairs, low = tirx.const(0x00FF00FF, "uint32"), tirx.const(0xFFFF, "uint32")
    halves = (words & pairs) + ((words >> tirx.const(8, "uint32")) & pairs)
    return (halves & low) + (halves >> tirx.const(16, "uint32"))


def counts_bytes(target, filters: int) -> bool:
    """Whether bits are counted by bytes: where words cannot be, and there are whole vectors of filters."""
    return target.popcount in ("nibble", "cnt") and padded_channels(filters) >= WORD


def looks_up(target, filters: int) -> bool:
    """Whether tables count the bits that differ from constant weights."""
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
