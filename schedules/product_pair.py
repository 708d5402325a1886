"""Two products of activations, the second of the first one's bits: an attention's scores, and the sum of its values.

    put the filters of both in order                                         filters_0, filters
    parallel (image, row of queries):
        for each tile of keys x queries:
            accumulators, tests, masks of bits                               acc_0, cond_row, mask_row, bits_row
        for each tile of queries x values:
            accumulators over all keys, epilogue                             acc, values

The bits of a row of queries stay in a cache, so no memory grows with queries times keys.
"""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV

from tvm_bnn.schedules.conv import ConvTile, Sum, accumulate, choose_tile, fill_tile, lanes_of, sums_of_tile, tiles
from tvm_bnn.schedules.decide import Decide, by_default
from tvm_bnn.schedules.elementwise import parallel_rows
from tvm_bnn.schedules.mask import gather_mask
from tvm_bnn.schedules.stages import Stages, extent, inner_loops, vectorize_channels


def apply(sch: Schedule, target, decide: Decide = by_default) -> str:
    """Schedule a kernel of the "product_pair" family in place; returns the name of the rule.

    Decides the register tiles of the first and of the second product.
    """
    stages = Stages.of(sch)
    second = Stages(tuple(name for name in stages.names if not _is_of_first(name)))
    scores, tile = _tile(sch, "acc_0", target, True, decide), _tile(sch, "acc", target, second.packs, decide)
    n, y, x, o, *taps = sch.get_loops(sch.get_sblock("acc"))
    xo, xi = sch.split(x, [None, tile.pixels])
    lanes = min(target.lanes32, extent(sch, o))
    own = lanes_of(sch, sch.get_sblock("acc"), lanes)
    oo, om, ov = sch.split(o, [None, tile.vectors * lanes // own, own])
    sums = accumulate(sch, sch.get_sblock("acc"), taps, [n, y, oo, xo], [xi, om, ov])
    rows = sch.fuse(n, y)
    sch.parallel(rows)
    sums += fill_tile(sch, second, xo, [xi, om, ov], tile)
    sums += _pack_row(sch, rows, scores, target)
    for name in stages.starting("filters"):
        parallel_rows(sch, sch.get_loops(sch.get_sblock(name)))
    for block, first_tap in sums:
        sch.set_scope(block, 0, "local")
        sch.decompose_reduction(block, first_tap)
    first, last = (f"{part.pixels}x{part.vectors}" for part in (scores, tile))
    return f"bmatmul-pair-{target.isa}-{first}-{last}"


def _is_of_first(stage: str) -> bool:
    """Whether a stage is the first product's; outputs are numbered from 0, which says nothing."""
    is_output = stage.startswith(("out_", "cond_", "mask_", "bits_"))
    return stage.endswith("_row") or (stage.endswith("_0") and not is_output)


def _tile(sch: Schedule, acc: str, target, packs: bool, decide: Decide) -> ConvTile:
    _, _, x, o, *_ = sch.get_loops(sch.get_sblock(acc))
    width, filters = extent(sch, x), extent(sch, o)
    lanes = lanes_of(sch, sch.get_sblock(acc), min(target.lanes32, filters))
    options = tiles(width, filters, lanes, target, packs)
    return decide(f"tile of {acc}", options, choose_tile(width, filters, target, packs, True, lanes))


def _pack_row(sch: Schedule, rows: LoopRV, tile: ConvTile, target) -> list[Sum]:
    """Make the bits that a row reads, tile by tile; returns the sums to be started at 0."""
    bits, mask, cond, acc = (sch.get_sblock(name) for name in ("bits_row", "mask_row", "cond_row", "acc_0"))
    lanes = min(target.lanes32, extent(sch, sch.get_loops(acc)[3]))
    sch.compute_at(bits, rows, preserve_unit_loops=True)
    x, masks = inner_loops(sch, bits, rows)[-2:]
    xo, xi = sch.split(x, [None, tile.pixels])
    mo, mi = sch.split(masks, [None, tile.vectors * lanes // extent(sch, sch.get_loops(mask)[-1])])
    sch.reorder(mo, xo, xi, mi)
    for block in (mask, cond):
        sch.compute_at(block, xo, preserve_unit_loops=True)
        sch.set_scope(block, 0, "local")
    sums = sums_of_tile(sch, acc, xo, tile, lanes)
    *pixels, channels = inner_loops(sch, cond, xo)
    *gathered, lane = inner_loops(sch, mask, xo)
    for loop in (xi, mi, *pixels, *vectorize_channels(sch, channels, lanes)[:-1], *gathered):
        sch.unroll(loop)
    gather_mask(sch, mask, lane, extent(sch, lane))
    return sums
