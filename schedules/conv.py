"""Convolutions, binary and float, on CPUs: one register tile of pixels x filter vectors.

    parallel (image, filter block, row):
        copy the rows of input that this row needs, with their border            pad
        for each tile of pixels:
            accumulators[pixels][vectors] = 0                                    in registers
            for each tap, for each input channel (word):
                accumulators += input[pixel] (*) weights[vector]
            epilogue on the accumulators; masks and words of bits

Per tap the tile loads ``pixels`` scalars and ``vectors`` vectors for pixels*vectors operations, so that the loads hide
behind the arithmetic from about 4 x 4 on.
"""

from dataclasses import dataclass

from tvm.s_tir import Schedule

from tvm_bnn.lower.layout import WORD
from tvm_bnn.schedules.elementwise import parallel_rows, place_readers
from tvm_bnn.schedules.stages import Stages, extent, inner_loops, pack_tail, vectorize_channels


@dataclass(frozen=True)
class ConvTile:
    """Decisions of the template: pixels and filter vectors of a register tile."""

    pixels: int
    vectors: int


def choose_tile(width: int, filters: int, target, packs: bool, binary: bool) -> ConvTile:
    """The default tile: as many accumulators as registers allow, pixels dividing the row.

    Registers hold pixels*vectors accumulators, a broadcast per pixel or a weight vector, and what one step of the
    arithmetic needs besides (popcount by table: the table, masks and temporaries).
    """
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
            if cost < best_cost:
                best, best_cost = ConvTile(pixels, vectors), cost
    return best


def apply_grouped(sch: Schedule, target, tile: ConvTile | None = None) -> str:
    """Schedule a kernel of the "grouped_conv" family in place: the input is padded as a whole first."""
    return apply(sch, target, tile, pad_apart=True)


def apply(sch: Schedule, target, tile: ConvTile | None = None, pad_apart: bool = False) -> str:
    """Schedule a kernel of the "conv" family in place; returns the name of the rule.

    tile : decisions, by default those of ``choose_tile``.
    pad_apart : pad the whole input before the tiles, instead of the rows that a tile needs.
    """
    stages = Stages.of(sch)
    acc = sch.get_sblock("acc")
    binary = str(sch.get(acc).writes[0].source.dtype) == "uint32"
    n, y, x, o, *taps = sch.get_loops(acc)
    filters, width = extent(sch, o), extent(sch, x)
    lanes = min(target.lanes32, filters)
    if tile is None:
        tile = choose_tile(width, filters, target, stages.packs, binary)
    xo, xi = sch.split(x, [None, tile.pixels])
    oo, om, ov = sch.split(o, [None, tile.vectors, lanes])
    counted = None
    if stages.has("counts"):
        (first,) = taps
        sch.reorder(n, oo, y, xo, first, xi, om, ov)
        counted = _count_bytes(sch, first, tile, lanes)
    else:
        first = _tap_loops(sch, taps, [n, oo, y, xo], [xi, om, ov])
    rows = sch.fuse(n, oo, y)
    sch.parallel(rows)
    if stages.has("filters"):  # the weights are another kernel's bits: put in order once
        parallel_rows(sch, sch.get_loops(sch.get_sblock("filters")))
    if stages.has("pad") and pad_apart:
        parallel_rows(sch, sch.get_loops(sch.get_sblock("pad")))
    elif stages.has("pad"):
        _copy_rows(sch, rows, target)
    if stages.packs and filters < WORD:  # fewer accumulators than bits in a word: words are put together apart
        place_readers(sch, stages.values, None, target)
        sch.decompose_reduction(acc, first)
        return f"{'bconv2d' if binary else 'conv2d'}-{target.isa}-thin"
    for name in stages.values:
        value = sch.get_sblock(name)
        sch.reverse_compute_at(value, xo, preserve_unit_loops=True)
        *outer, channels = inner_loops(sch, value, xo)
        for loop in [*outer, *vectorize_channels(sch, channels, lanes)[:-1]]:
            sch.unroll(loop)
    pack_tail(sch, {name: xo for name in stages.starting("cond_")})
    sch.unroll(xi)
    sch.unroll(om)
    sch.vectorize(ov)
    sch.set_scope(acc, 0, "local")
    sch.decompose_reduction(acc, first)
    if counted is not None:
        sch.decompose_reduction(*counted)
    return f"{'bconv2d' if binary else 'conv2d'}-{target.isa}-{tile.pixels}x{tile.vectors}"


def _tap_loops(sch: Schedule, taps: list, outer: list, inner: list):
    """Order the loops of a tile: outer, kernel rows, one run, inner; returns the loop over kernel rows."""
    ky, kx, kc = taps
    # One loop over the contiguous (kx, channel) run: LLVM would unroll a short channel loop and spill accumulators.
    run = sch.fuse(kx, kc)
    sch.reorder(*outer, ky, run, *inner)
    return ky


def _count_bytes(sch: Schedule, block_loop, tile: ConvTile, lanes: int):
    """Place the byte counters of a tile under the loop over blocks of words; returns them and their first tap loop."""
    counts = sch.get_sblock("counts")
    sch.compute_at(counts, block_loop, preserve_unit_loops=True)
    n, y, x, o, r, ky, kx, kc = inner_loops(sch, counts, block_loop)
    om, ov = sch.split(o, [tile.vectors, lanes])
    first = _tap_loops(sch, [ky, kx, kc], [n, y, r], [x, om, ov])
    sch.unroll(x)
    sch.unroll(om)
    sch.vectorize(ov)
    sch.set_scope(counts, 0, "local")
    return counts, first


def _copy_rows(sch: Schedule, rows, target) -> None:
    pad = sch.get_sblock("pad")
    sch.compute_at(pad, rows, preserve_unit_loops=True)
    inner = inner_loops(sch, pad, rows)
    last = inner[-1]
    if extent(sch, last) % target.lanes32 == 0:
        vectorize_channels(sch, last, target.lanes32)
