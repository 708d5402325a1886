"""Means of values, weighted by a table of binary scores: attention with softmax, a block of keys at a time.

    put the filters of the scores, and the values, in order                      filters_0, filters
    parallel (image, row of queries):
        for each block of keys:
            for each tile of queries: how many bits differ                       acc_0, scores_row
            for each tile of values x queries:
                sums over the keys of the block, in registers                    part
                added to those of all keys, which stay in a cache                acc
        divide, epilogue

A query's weight is one load from the table, which all values of a tile share. No memory grows with queries times keys.
"""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV

from tvm_bnn.schedules.conv import ConvTile, Sum, choose_tile, in_registers, lanes_of, sums_of_tile, tiles
from tvm_bnn.schedules.decide import Decide, by_default
from tvm_bnn.schedules.elementwise import parallel_rows, place_readers
from tvm_bnn.schedules.stages import Stages, extent, inner_loops, vectorize_channels


def choose_value_tile(width: int, vectors: int, target) -> ConvTile:
    """The default tile of queries and vectors of values: the fewest loads per operation.

    For a key, a query costs two loads (which weight, and the weight), a vector of values one. Registers hold the
    accumulators, the vectors of values and a weight.
    """
    fitting = [
        ConvTile(pixels, count)
        for count in range(1, vectors + 1)
        for pixels in range(1, min(width, target.registers) + 1)
        if vectors % count == 0 and width % pixels == 0 and pixels * count + count < target.registers
    ]
    return min(fitting, key=lambda tile: (2 * tile.pixels + tile.vectors) / (tile.pixels * tile.vectors))


def apply(sch: Schedule, target, decide: Decide = by_default) -> str:
    """Schedule a kernel of the "weighted_mean" family in place; returns the name of the rule.

    Decides the register tiles of the scores, and of the sums of values.
    """
    stages = Stages.of(sch)
    acc, part = sch.get_sblock("acc"), sch.get_sblock("part")
    n, y, x, o, block = sch.get_loops(acc)
    width, count, keys = extent(sch, x), extent(sch, o), extent(sch, sch.get_loops(part)[-1])
    lanes = min(target.lanes32, keys)
    if stages.has("acc_0"):
        lanes = lanes_of(sch, sch.get_sblock("acc_0"), lanes)
    options = tiles(width, keys, lanes, target)
    scores = decide("tile of scores", options, choose_tile(width, keys, target, False, True, lanes))
    options = tiles(width, count, target.lanes32, target)
    tile = decide("tile of values", options, choose_value_tile(width, count // target.lanes32, target))
    rows = sch.fuse(n, y)
    xo, xi = sch.split(x, [None, tile.pixels])
    oo, om, ov = sch.split(o, [None, tile.vectors, target.lanes32])
    sch.reorder(rows, block, oo, xo, xi, om, ov)
    in_registers(sch, [xi, om, ov])
    sch.parallel(rows)
    sums: list[Sum] = [(acc, block), _sum_part(sch, xo, tile, target)]
    sums += _count_scores(sch, block, scores, target, stages.has("acc_0"))
    for name in stages.starting("filters"):
        parallel_rows(sch, sch.get_loops(sch.get_sblock(name)))
    place_readers(sch, stages.values, rows, target)
    for stage, first in sums:
        sch.decompose_reduction(stage, first)
    first, last = (f"{each.pixels}x{each.vectors}" for each in (scores, tile))
    return f"weighted-mean-{target.isa}-{first}-{last}"


def _sum_part(sch: Schedule, xo: LoopRV, tile: ConvTile, target) -> Sum:
    """Sums over a block of keys, in registers."""
    part = sch.get_sblock("part")
    sch.compute_at(part, xo, preserve_unit_loops=True)
    n, y, p, x, o, key = inner_loops(sch, part, xo)
    om, ov = sch.split(o, [tile.vectors, target.lanes32])
    sch.reorder(n, y, p, key, x, om, ov)
    in_registers(sch, [x, om, ov])
    sch.set_scope(part, 0, "local")
    return part, key


def _count_scores(sch: Schedule, block: LoopRV, tile: ConvTile, target, counts: bool) -> list[Sum]:
    """The scores of a row of queries with a block of keys, tile by tile if they are counted here."""
    scores = sch.get_sblock("scores_row")
    sch.compute_at(scores, block, preserve_unit_loops=True)
    x, k = inner_loops(sch, scores, block)[-2:]
    lanes = min(target.lanes32, extent(sch, k))
    xo, xi = sch.split(x, [None, tile.pixels])
    ko, ki = sch.split(k, [None, tile.vectors * lanes])
    sch.reorder(ko, xo, xi, ki)
    sums = []
    if counts:
        acc = sch.get_sblock("acc_0")
        sums = sums_of_tile(sch, acc, xo, tile, lanes)
        for stage, _ in sums:
            sch.set_scope(stage, 0, "local")
    for loop in (xi, *vectorize_channels(sch, ki, lanes)[:-1]):
        sch.unroll(loop)
    return sums
