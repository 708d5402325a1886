"""A float convolution and the max-pooling of its map, a few rows at a time.

    parallel (image, block of pooled rows):
        for each row of the map that the block needs:
            for each tile of pixels: accumulate, epilogue                        acc_0, as in conv.py, and map_0
            for each pooled pixel and vector of channels: largest along the row  rows
        for each pooled row and vector of channels:
            largest of the window's rows; epilogue, masks and words of bits      acc

Only one row of the map exists at a time. The maxima along the rows of a block stay in the second-level cache; those at
the seam of blocks are made twice.
"""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_bnn.lower.matrix import pixels_of_tile
from tvm_bnn.schedules.conv import Sum, choose_tile, copy_rows, in_registers, kind_of, sums_of_tile, tiles
from tvm_bnn.schedules.decide import Decide, by_default, divisors
from tvm_bnn.schedules.elementwise import place_readers
from tvm_bnn.schedules.matrix_conv import CutTiles, TileSums, expand_rows, flatten_words
from tvm_bnn.schedules.stages import Stages, extent, inner_loops, vectorize_channels
from tvm_bnn.schedules.tiles import TileShape, configure

#: Bytes of the maxima along the rows of a block.
_CACHE = 768 << 10


def apply(sch: Schedule, target, decide: Decide = by_default) -> str:
    """Schedule a kernel of the "conv_pool" family in place; returns the name of the rule.

    Decides the pooled rows of a block, and the tile in which the map is made.
    """
    stages = Stages.of(sch)
    acc, rows, made = (sch.get_sblock(name) for name in ("acc", "rows", "map_0"))
    height, _, channels = (int(e) for e in sch.get(made).writes[0].source.shape[1:])
    n, y, x, c, ky = sch.get_loops(acc)
    pooled = extent(sch, y)
    default = _block_rows(height, extent(sch, x) * channels * 4, pooled)
    yo, yi = sch.split(y, [None, decide("rows", divisors(pooled, 32), default)])
    vectors = vectorize_channels(sch, c, target.lanes32)
    sch.reorder(n, yo, yi, x, vectors[0], ky, *vectors[1:])
    blocks = sch.fuse(n, yo)
    sch.parallel(blocks)
    sch.compute_at(rows, blocks, preserve_unit_loops=True)
    _, my, rx, rc, kx = inner_loops(sch, rows, blocks)
    vectors = vectorize_channels(sch, rc, target.lanes32)
    sch.reorder(rx, vectors[0], kx, *vectors[1:])
    sch.compute_at(made, my, preserve_unit_loops=True)
    if stages.has("bytes_0"):
        sums: list[Sum] = []
        rule = _in_tiles(sch, made, blocks, my, target, decide)
    else:
        sums, rule = _in_vectors(sch, stages, made, my, target, decide)
    place_readers(sch, stages.values, x, target)
    for block, first in sums:
        sch.set_scope(block, 0, "local")
        sch.decompose_reduction(block, first)
    sch.decompose_reduction(rows, kx)
    sch.decompose_reduction(acc, ky)
    return rule.replace("conv2d", "conv2d_max_pool2d", 1)


def _in_vectors(
    sch: Schedule, stages: Stages, made: SBlockRV, my: LoopRV, target, decide: Decide
) -> tuple[list[Sum], str]:
    """Make a row of the map in vectors; returns the sums to be started at 0, each with its first tap loop."""
    width, channels = (int(e) for e in sch.get(made).writes[0].source.shape[2:])
    *_, mx, mc = inner_loops(sch, made, my)
    lanes = min(target.lanes32, channels)
    options = tiles(width, channels, lanes, target)
    tile = decide("tile", options, choose_tile(width, channels, target, False, False))
    mxo, mxi = sch.split(mx, [None, tile.pixels])
    mco, mcm, mcv = sch.split(mc, [None, tile.vectors, lanes])
    sch.reorder(mco, mxo, mxi, mcm, mcv)
    sums = sums_of_tile(sch, sch.get_sblock("acc_0"), mxo, tile, lanes)
    in_registers(sch, [mxi, mcm, mcv])
    if stages.has("pad_0"):
        copy_rows(sch, sch.get_sblock("pad_0"), my, target)
    return sums, f"{kind_of(sch, sums[0][0])}-{target.isa}-{tile.pixels}x{tile.vectors}"


def _in_tiles(sch: Schedule, made: SBlockRV, blocks: LoopRV, my: LoopRV, target, decide: Decide) -> str:
    """Make a row of the map in the registers of a matrix unit, from input that is expanded once a block.

    Tiles are cut out before they are placed in the row: the rows of two blocks overlap, and TVM would not find the
    tiles in such a loop.
    """
    acc = sch.get_sblock("acc_0")
    flatten_words(sch, sch.get_sblock("bytes_0"))
    width = int(sch.get(made).writes[0].source.shape[2])
    pixels = pixels_of_tile(width)
    sums = TileSums([acc], [], ["map_0"])
    registers = divisors(width // pixels, 2)
    shape = TileShape(pixels, decide("registers", registers, registers[-1]), 2, sums.operands(sch))
    rule = sums.rule(sch, target, shape)
    tiles = CutTiles.of(sch, acc, shape)
    configure(sch, blocks, shape)
    *_, mx, mc = inner_loops(sch, made, my)
    mxo, mxi = sch.split(mx, [None, shape.rows * pixels])
    mco, mci = sch.split(mc, [None, shape.stride])
    sch.reorder(mxo, mco, mxi, mci)
    for loop in vectorize_channels(sch, mci, target.lanes32)[:-1]:
        sch.unroll(loop)
    tiles.place(sch, mco)
    expand_rows(sch, sch.get_sblock("bytes_0"), blocks)
    return rule


def _block_rows(height: int, row_bytes: int, pooled_rows: int) -> int:
    """Pooled rows of a block: as many as leave the maxima of the rows that they need in the cache."""
    step = max(height // pooled_rows, 1)
    fitting = [r for r in (1, 2, 4, 8, 16) if pooled_rows % r == 0 and (r * step + 1) * row_bytes <= _CACHE]
    return max(fitting, default=1)
