"""Convolutions, binary and float, on CPUs: one register tile of pixels x filter vectors.

    parallel (image, filter block, block of rows):
        copy the rows of input that these rows need, with their border           pad
        for each row, tile of pixels:
            accumulators[pixels][vectors] = 0                                    in registers
            for each tap, for each input channel (word):
                accumulators += input[pixel] (*) weights[vector]
            epilogue on the accumulators; masks and words of bits; sums of a row

Convolutions whose results one epilogue adds up (``acc``, ``acc_1`` ...) accumulate one after the other in a tile, and
``joint`` is the value that joins them; where outputs mix them in different ways, each has one, in the same loops.

Per tap the tile loads ``pixels`` scalars and ``vectors`` vectors for pixels*vectors operations, so that the loads hide
behind the arithmetic from about 4 x 4 on.
"""

from math import prod
from typing import NamedTuple

from tvm import DataType
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_bnn.lower.bit_counts import half_tile
from tvm_bnn.lower.layout import WORD
from tvm_bnn.schedules.decide import Decide, by_default, divisors
from tvm_bnn.schedules.elementwise import parallel_rows, place_readers
from tvm_bnn.schedules.stages import Stages, extent, inner_loops, pack_tail, vectorize_channels

Sum = tuple[SBlockRV, LoopRV]
#: Bytes of copied rows of input, and the work of copying one where computing a row of output is 1.
_CACHE, _COPYING = 48 << 10, 1 / 16
#: Bytes of a map that a second-level cache keeps.
_SECOND_CACHE = 1 << 20


class ConvTile(NamedTuple):
    """A decision of the template: pixels and filters of a register tile, these in vectors of 32-bit lanes."""

    pixels: int
    vectors: int


def tiles(width: int, filters: int, lanes: int, target, packs: bool = False) -> list[ConvTile]:
    """What may be decided for vectors of so many lanes: all tiles whose accumulators fit the registers.

    packs : a tile must have whole words.
    """
    wide = max(lanes // target.lanes32, 1)
    least = max(1, WORD // lanes) if packs and filters >= WORD else 1
    return [
        ConvTile(pixels, vectors * wide)
        for vectors in divisors(filters // lanes, target.registers)
        for pixels in divisors(width, target.registers)
        if vectors % least == 0 and pixels * vectors <= target.registers
    ]


def choose_tile(
    width: int, filters: int, target, packs: bool, binary: bool, lanes: int | None = None, steps: int | None = None
) -> ConvTile:
    """The default tile: as many accumulators as registers allow, pixels dividing the row.

    Registers hold pixels*vectors accumulators, a broadcast per pixel or a weight vector, and what one step of the
    arithmetic needs besides (popcount by table: the table, masks and temporaries).
    lanes : of a vector, where these are not those of 32 bits.
    steps : words of a sum, where results go through to memory; if they are few, a tile has all filters of its pixels,
    so that their results are written, and what is added to them is read, in one go.
    """
    if lanes is not None and lanes > target.lanes32:
        pixels, vectors = half_tile(width, filters, target, packs)
        return ConvTile(pixels, vectors * lanes // target.lanes32)
    lanes = min(target.lanes32, filters)
    spare = {"vpopcntdq": 4, "cnt": 6, "nibble": 8, "scalar": 6}[target.popcount] if binary else 3
    budget = max(target.registers - spare, 4)
    blocks = filters // lanes
    least = max(1, 32 // lanes) if packs else 1
    best = ConvTile(1, min(least, blocks))
    best_cost = float("inf")
    for vectors in (1, 2, 3, 4, 6, 8):
        if blocks % vectors or (packs and vectors % least):
            continue
        for pixels in range(1, min(width, 16) + 1):
            if width % pixels or pixels * vectors + min(pixels, vectors) > budget:
                continue
            # loads per operation, and a penalty for too few independent accumulators to hide latency
            cost = (pixels + vectors) / (pixels * vectors) + 2.0 / (pixels * vectors)
            if steps is not None:
                cost += (blocks / vectors - 1) / steps
            if cost < best_cost:
                best, best_cost = ConvTile(pixels, vectors), cost
    return best


def choose_table_tile(width: int, filters: int, lanes: int, target) -> ConvTile:
    """The default tile where tables count bits, in vectors of so many bytes: the fewest loads per operation.

    A pixel costs two loads (which table, and the table), a vector of weights one. Accumulators take half of the
    registers: tables, weights and what is looked up take the others.
    """
    tiles = [
        (pixels, vectors)
        for vectors in range(1, filters // lanes + 1)
        for pixels in range(1, width + 1)
        if filters // lanes % vectors == 0 and width % pixels == 0 and pixels * vectors <= target.registers // 2
    ]
    pixels, vectors = min(tiles, key=lambda tile: (2 * tile[0] + tile[1]) / (tile[0] * tile[1]))
    return ConvTile(pixels, vectors * lanes // target.lanes32)


def kind_of(sch: Schedule, acc: SBlockRV) -> str:
    """What a sum belongs to: counts of bits, or products of integers or floats."""
    block = sch.get(acc)
    if str(block.writes[0].source.dtype) == "float32":
        return "conv2d"
    return "conv2d-int8" if "products" in block.annotations else "bconv2d"


def choose_rows(height: int, others: int, inputs: list[tuple[int, int]], threads: int) -> int:
    """The default number of rows in a block: neighbours need most rows of input in common, which are copied once.

    What counts is the work of the thread that has most to do; the copies stay in the first-level cache, or in the
    second where those of a single row do: a dilated kernel reaches over rows of which a block hardly copies more.
    height : of the result. others : blocks that share a row. inputs : rows, and bytes of a row, of each copied input.
    """
    best, least = 1, float("inf")

    def read(rows: int) -> list[tuple[int, int]]:
        return [(total - (height - rows) * max(total // height, 1), size) for total, size in inputs]

    def held(rows: int) -> int:
        return sum(count * size for count, size in read(rows))

    cache = _CACHE if held(1) <= _CACHE else min(2 * held(1), _SECOND_CACHE)
    for rows in (r for r in range(1, min(height, 8) + 1) if height % r == 0):
        if rows > 1 and (not inputs or held(rows) > cache):
            break
        work = rows + sum(count for count, _ in read(rows)) * _COPYING
        share = -(-others * height // rows // threads) * work
        if share < least:
            best, least = rows, share
    return best


def apply_grouped(sch: Schedule, target, decide: Decide = by_default) -> str:
    """Schedule a kernel of the "grouped_conv" family in place: the input is padded as a whole first."""
    return apply(sch, target, decide, pad_apart=True)


def apply(sch: Schedule, target, decide: Decide = by_default, pad_apart: bool = False) -> str:
    """Schedule a kernel of the "conv" family in place; returns the name of the rule.

    Decides the register tile, and the rows of a block.
    pad_apart : pad the whole input before the tiles, instead of the rows that a tile needs.
    """
    stages = Stages.of(sch)
    acc = sch.get_sblock("acc")
    binary = kind_of(sch, acc) == "bconv2d"
    n, y, x, o, *taps = sch.get_loops(acc)
    filters, lanes = extent(sch, o), min(target.lanes32, extent(sch, o))
    floats = 4 * prod(extent(sch, loop) for loop in (n, y, x, o)) if stages.starting("out_") else 0
    words = prod(extent(sch, tap) for tap in taps) if binary and floats > _SECOND_CACHE else None
    accs = [sch.get_sblock(name) for name in stages.starting("acc")]
    tile, widest, tables = decide_tile(sch, accs, target, stages.packs, binary, words, decide)
    thin = stages.packs and filters < WORD  # fewer accumulators than bits in a word: words are put together apart
    joint = stages.starting("joint")
    n, y, x, o = sch.get_loops(sch.get_sblock(joint[0]) if joint else acc)[:4]
    xo, xi = sch.split(x, [None, tile.pixels])
    vector = lanes if joint else widest
    oo, om, ov = sch.split(o, [None, tile.vectors * lanes // vector, vector])
    if joint:
        sch.reorder(n, oo, y, xo, xi, om, ov)
        sums = []
    else:
        sums = accumulate(sch, acc, taps, [n, oo, y, xo], [xi, om, ov])
    pads = [sch.get_sblock(name) for name in stages.starting("pad")]
    rows = blocks_of_rows(sch, [n, oo, y], pads if binary and not pad_apart else [], target.threads, decide)
    if stages.has("filters"):  # the weights are another kernel's bits: put in order once
        parallel_rows(sch, sch.get_loops(sch.get_sblock("filters")))
    if thin:
        place_readers(sch, stages.values, None, target)
    else:
        sums += fill_tile(sch, stages, xo, [xi, om, ov], tile)
        for block, _ in sums:
            sch.set_scope(block, 0, "local")
    for pad in pads:
        if pad_apart:
            parallel_rows(sch, sch.get_loops(pad))
        else:
            copy_rows(sch, pad, rows, target)
    for block, first in [*sums, *((sch.get_sblock(name), xo) for name in stages.starting("sums_"))]:
        sch.decompose_reduction(block, first)
    rule = f"{kind_of(sch, acc)}-{target.isa}"
    kind = "thin" if thin else f"{tile.pixels}x{tile.vectors}"
    return f"{rule}-tables-{kind}" if tables else f"{rule}-{kind}"


def decide_tile(
    sch: Schedule, accs: list[SBlockRV], target, packs: bool, binary: bool, words: int | None, decide: Decide
) -> tuple[ConvTile, int, bool]:
    """The register tile of convolutions, the lanes of their widest vector, and whether tables count their bits."""
    _, _, x, o = sch.get_loops(accs[0])[:4]
    width, filters = extent(sch, x), extent(sch, o)
    lanes = min(target.lanes32, filters)
    widest = max(lanes_of(sch, acc, lanes) for acc in accs)
    tables = widest > lanes and any(_counts_of(sch, acc) is not None for acc in accs)
    if tables:
        default = choose_table_tile(width, filters, widest, target)
    else:
        default = choose_tile(width, filters, target, packs, binary, widest, words)
    return decide("tile", tiles(width, filters, widest, target, packs), default), widest, tables


def blocks_of_rows(sch: Schedule, loops: list[LoopRV], pads: list[SBlockRV], threads: int, decide: Decide) -> LoopRV:
    """Share blocks of rows among the threads.

    loops : nested, the last one over rows. pads : copies of the rows that a block reads.
    """
    *outer, y = loops
    copied = [sch.get(pad).writes[0].source for pad in pads]
    inputs = [(int(b.shape[1]), prod(map(int, b.shape[2:])) * DataType(str(b.dtype)).itemsize) for b in copied]
    height, others = extent(sch, y), prod(extent(sch, loop) for loop in outer)
    yo, _ = sch.split(y, [None, decide("rows", divisors(height, 16), choose_rows(height, others, inputs, threads))])
    rows = sch.fuse(*outer, yo)
    sch.parallel(rows)
    return rows


def fill_tile(
    sch: Schedule, stages: Stages, xo: LoopRV, inner: list[LoopRV], tile: ConvTile, masks: LoopRV | None = None
) -> list[Sum]:
    """Place all that a tile computes under its loop, its words of bits under ``masks``; returns a joint tile's sums.

    Values of several convolutions are written pixel by pixel: those of a whole tile would not stay in registers.
    """
    sums, lanes, at = [], extent(sch, inner[-2]) * extent(sch, inner[-1]) // tile.vectors, xo
    joint = stages.starting("joint")
    if joint:
        at = inner[0] if len(inner) > 2 else xo
        in_registers(sch, inner)
        for name in stages.starting("acc"):
            sums += sums_of_tile(sch, sch.get_sblock(name), xo, tile, lanes)
        for name in joint:
            sch.set_scope(sch.get_sblock(name), 0, "local")
    for name in stages.values:
        _place_value(sch, sch.get_sblock(name), at, lanes)
    pack_tail(sch, {name: at if masks is None else masks for name in stages.starting("cond_")})
    return sums


def in_registers(sch: Schedule, inner: list[LoopRV]) -> None:
    """Unroll the loops over a tile's pixels and vectors; the last one is a vector."""
    for loop in inner[:-1]:
        sch.unroll(loop)
    sch.vectorize(inner[-1])


def _place_value(sch: Schedule, value: SBlockRV, xo: LoopRV, lanes: int) -> None:
    """Compute a value of the epilogue for a tile, while its accumulators are in registers, or add its pixels up."""
    sch.reverse_compute_at(value, xo, preserve_unit_loops=True)
    *outer, channels = inner_loops(sch, value, xo)
    if sch.get(value).name_hint.startswith("sums_"):  # pixels are added one by one, channels side by side
        *outer, channels = *outer[:-1], channels, outer[-1]
        sch.reorder(outer[-1], channels)
    for loop in [*outer, *vectorize_channels(sch, channels, lanes)[:-1]]:
        sch.unroll(loop)


def sums_of_tile(sch: Schedule, acc: SBlockRV, xo: LoopRV, tile: ConvTile, lanes: int) -> list[Sum]:
    """Place the accumulators of a convolution in the tile of the epilogue that reads them."""
    own = lanes_of(sch, acc, lanes)
    sch.compute_at(acc, xo, preserve_unit_loops=True)
    n, y, x, o, *taps = inner_loops(sch, acc, xo)
    om, ov = sch.split(o, [tile.vectors * lanes // own, own])
    return accumulate(sch, acc, taps, [n, y], [x, om, ov])


def _counts_of(sch: Schedule, acc: SBlockRV) -> SBlockRV | None:
    """The stage of bytes that are widened into an accumulator, if there is one."""
    return next((p for p in sch.get_producers(acc) if sch.get(p).name_hint.startswith("counts")), None)


def lanes_of(sch: Schedule, acc: SBlockRV, lanes: int) -> int:
    """Filters of a vector of accumulators: what they, or their bytes, ask for, else ``lanes``."""
    counts = _counts_of(sch, acc)
    return int(sch.get(acc if counts is None else counts).annotations.get("lanes", lanes))


def accumulate(sch: Schedule, acc: SBlockRV, taps: list[LoopRV], outer: list[LoopRV], inner: list[LoopRV]) -> list[Sum]:
    """Order the loops of a tile's accumulators; returns the sums to be started at 0, each with its first tap loop."""
    sums = []
    _, vectors, lanes = inner
    if len(taps) == 1:
        (first,) = taps
        sch.reorder(*outer, first, *inner)
        counts = _counts_of(sch, acc)
        sch.compute_at(counts, first, preserve_unit_loops=True)
        n, y, x, o, r, *words = inner_loops(sch, counts, first)
        om, ov = sch.split(o, [extent(sch, vectors), extent(sch, lanes)])
        sums += accumulate(sch, counts, words, [n, y, r], [x, om, ov])
    else:
        first, kx, kc = taps
        if "whole_rows" in sch.get(acc).annotations:  # which pixels count is known once kx is unrolled
            run = [kx, kc]
            sch.unroll(kx)
        elif "unrolled" in sch.get(acc).annotations:  # lanes of what is read at once
            run = [kx, kc]
            sch.unroll(kc)
        else:  # one loop over the contiguous (kx, channel) run: LLVM would unroll a short one and spill accumulators
            run = [sch.fuse(kx, kc)]
        sch.reorder(*outer, first, *run, *inner)
    in_registers(sch, inner)
    return [(acc, first), *sums]


def copy_rows(sch: Schedule, pad: SBlockRV, rows: LoopRV, target) -> None:
    """Copy the rows of input that a row of output needs, with their border."""
    sch.compute_at(pad, rows, preserve_unit_loops=True)
    last = inner_loops(sch, pad, rows)[-1]
    if extent(sch, last) % target.lanes32 == 0:
        vectorize_channels(sch, last, target.lanes32)
