"""A float convolution and the max-pooling of its map, a few rows at a time.

    parallel (image, block of pooled rows):
        for each row of the map that the block needs:                            map_0
            for each tile of pixels: accumulate, epilogue                        acc_0, as in conv.py
        for each pooled row and vector of channels:
            largest of the window; epilogue, masks and words of bits             acc

The map exists only as the few rows of a block, in the second-level cache; rows at the seam of blocks are made twice.
"""

from tvm.s_tir import Schedule

from tvm_bnn.schedules.conv import choose_tile, copy_rows, in_registers, sums_of_tile
from tvm_bnn.schedules.elementwise import place_readers
from tvm_bnn.schedules.stages import Stages, extent, inner_loops, vectorize_channels

#: Bytes of a block's rows of the map.
_CACHE = 768 << 10


def apply(sch: Schedule, target) -> str:
    """Schedule a kernel of the "conv_pool" family in place; returns the name of the rule."""
    stages = Stages.of(sch)
    acc, rows_of = sch.get_sblock("acc"), sch.get_sblock("map_0")
    height, width, channels = (int(e) for e in sch.get(rows_of).writes[0].source.shape[1:])
    n, y, x, c, ky, kx = sch.get_loops(acc)
    yo, yi = sch.split(y, [None, _block_rows(height, width * channels * 4, extent(sch, y))])
    vectors = vectorize_channels(sch, c, target.lanes32)
    sch.reorder(n, yo, yi, x, vectors[0], ky, kx, *vectors[1:])
    blocks = sch.fuse(n, yo)
    sch.parallel(blocks)
    sch.compute_at(rows_of, blocks, preserve_unit_loops=True)
    _, my, mx, mc = inner_loops(sch, rows_of, blocks)
    lanes = min(target.lanes32, channels)
    tile = choose_tile(width, channels, target, False, False)
    mxo, mxi = sch.split(mx, [None, tile.pixels])
    mco, mcm, mcv = sch.split(mc, [None, tile.vectors, lanes])
    sch.reorder(my, mco, mxo, mxi, mcm, mcv)
    sums = sums_of_tile(sch, sch.get_sblock("acc_0"), mxo, tile, lanes)
    in_registers(sch, [mxi, mcm, mcv])
    if stages.has("pad_0"):
        copy_rows(sch, sch.get_sblock("pad_0"), my, target)
    place_readers(sch, stages.values, x, target)
    for block, first in sums:
        sch.set_scope(block, 0, "local")
        sch.decompose_reduction(block, first)
    sch.decompose_reduction(acc, ky)
    return f"conv2d_max_pool2d-{target.isa}-{tile.pixels}x{tile.vectors}"


def _block_rows(height: int, row_bytes: int, pooled_rows: int) -> int:
    """Pooled rows of a block: as many as leave its rows of the map in the cache."""
    step = max(height // pooled_rows, 1)
    fitting = [r for r in (1, 2, 4, 8, 16) if pooled_rows % r == 0 and (r * step + 1) * row_bytes <= _CACHE]
    return max(fitting, default=1)
