"""Counting different bits: the accumulators of every binary sum.

A processor that counts the bits of a whole word at once (VPOPCNTDQ) adds the counts as they come: stage ``acc``. Others
count bytes (by a table of nibbles in AVX2, ``cnt`` in NEON), and putting four bytes together costs as much again as
counting them. So bytes are added up first, four counters side by side in a word, ``counts``: a byte gains at most 8 a
word, so up to 31 words fit, and a carry into its neighbour cannot happen. Only then the four are put together and
added to ``acc``:

    counts[..., r] = sum over the words of block r of byte_counts(x ^ w)        r: at most 31 words
    acc[...]       = sum over r of the four bytes of counts[..., r]

``bnn.byte_counts`` is a scalar operator that vectorises like any other; LLVM sees ctpop of a vector of bytes.
"""

from collections.abc import Callable

from tvm import te, tirx

from tvm_bnn.lower.layout import WORD, padded_channels
from tvm_bnn.lower.operator import register
from tvm_bnn.lower.reader import Reader

#: Words whose bits a byte can count: 31 * 8 < 256.
MOST_WORDS = 31
_BYTE_COUNTS = "bnn.byte_counts"


def _lower_byte_counts(call):
    """Count the bits of each byte: 32-bit lanes seen as four times as many bytes."""
    (words,), dtype = call.args, str(call.ty.dtype)
    lanes = int(dtype.partition("x")[2] or 1)
    return tirx.reinterpret(dtype, tirx.popcount(tirx.reinterpret(f"uint8x{4 * lanes}", words)))


register(_BYTE_COUNTS, 1, _lower_byte_counts)


def byte_counts(words):
    """The number of ones in each byte of a 32-bit word, in that byte."""
    return tirx.call_intrin("uint32", _BYTE_COUNTS, words)


def sum_of_bytes(words):
    """The sum of the four bytes of a word."""
    pairs, low = tirx.const(0x00FF00FF, "uint32"), tirx.const(0xFFFF, "uint32")
    halves = (words & pairs) + ((words >> tirx.const(8, "uint32")) & pairs)
    return (halves & low) + (halves >> tirx.const(16, "uint32"))


def counts_bytes(target, filters: int) -> bool:
    """Whether bits are counted by bytes: where words cannot be, and there are whole vectors of filters."""
    return target.popcount in ("nibble", "cnt") and padded_channels(filters) >= WORD


def blocks(taps: tuple[int, int, int]) -> tuple[int, int, int]:
    """Into how many blocks rows, columns and words of a window are cut, of at most MOST_WORDS words each."""
    height, width, words = taps
    if height * width * words <= MOST_WORDS:
        return 1, 1, 1
    if width * words <= MOST_WORDS:
        return height, 1, 1
    parts = next(p for p in range(1, words + 1) if words % p == 0 and words // p <= MOST_WORDS)
    return height, width, parts


def different_bits(
    reader: Reader,
    shape: tuple[int, int, int, int],
    taps: tuple[int, int, int],
    read: Callable,
    weights: Callable,
    groups: int,
):
    """Stages ``counts`` and ``acc`` of a window's sum of popcount(read ^ weights); arguments as of window_sums."""
    batch, filters, height, width = shape
    per_group, padded = filters // groups, padded_channels(filters)
    cut = blocks(taps)
    whole = [extent // parts for extent, parts in zip(taps, cut, strict=True)]
    inner = [reader.reduce_axis(extent, name) for extent, name in zip(whole, ("ky", "kx", "kc"), strict=True)]
    count = cut[0] * cut[1] * cut[2]

    def count_bytes(n, y, x, o, r):
        group = tirx.min(o // per_group, groups - 1) if groups > 1 else 0
        place = r // (cut[1] * cut[2]), r // cut[2] % cut[1], r % cut[2]
        ky, kx, kc = (block * extent + axis.var for block, extent, axis in zip(place, whole, inner, strict=True))
        return te.sum(byte_counts(read(n, y, x, ky, kx, group, kc) ^ weights(n, o, ky, kx, kc)), axis=inner)

    counts = reader.compute((batch, height, width, padded, count), count_bytes, "counts")
    block = reader.reduce_axis(count, "r")
    return reader.compute(
        (batch, height, width, padded),
        lambda n, y, x, o: te.sum(sum_of_bytes(counts(n, y, x, o, block.var)), axis=block),
        "acc",
    )
