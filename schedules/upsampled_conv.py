"""Binary convolutions behind nearest upsampling, whose sums s * s pixels share (lower/anchors/upsampled_conv.py).

    parallel (image, block of rows of the map):
        copy the rows of bits that the block reads, with their border            pad (or bytes)
        for each 32 filters:
            for each part of each convolution, row of the map, tile of its pixels:
                accumulators += popcounts (or products) of all taps of the part  in registers
                store them                                                       in a cache
            for each row of the map, few of its pixels:
                add parts up along the row                                       column, in registers
                for each of the s * s pixels: add up columns; join convolutions; epilogue, masks and words of bits

Rows at the seam of blocks are made twice. Pixels that are equal before the epilogue are found by LLVM. A part that is
not made before the upsampling has s rows for each row of the map.
"""

from typing import NamedTuple

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_bnn.lower.layout import WORD
from tvm_bnn.lower.matrix import TILE_FILTERS
from tvm_bnn.schedules.conv import ConvTile, copy_rows, fill_tile, in_registers, lanes_of
from tvm_bnn.schedules.decide import Decide, by_default, divisors
from tvm_bnn.schedules.matrix_conv import expand_rows
from tvm_bnn.schedules.stages import Stages, extent, inner_loops
from tvm_bnn.schedules.tiles import TileShape, configure

#: Bytes of parts that stay in the second-level cache, and what a row at a seam costs where any row costs 1.
_CACHE, _SEAM = 1 << 20, 2 / 3
#: Vectors of the output that are written out one by one, so that what they share stays in registers.
_UNROLLED = 64


class UpsampledTile(NamedTuple):
    """A decision of the template: rows of a block, and pixels of a tile of the epilogue, both of the map."""

    rows: int
    pixels: int


def choose_tile(
    size: tuple[int, int, int],
    scales: tuple[int, int],
    parts: list[tuple[int, int]],
    vectors: int,
    threads: int,
    joint: bool = False,
) -> UpsampledTile:
    """The default decisions: the least work of the thread that has most to do, and one or two pixels.

    size : (N, H, W) of the map whose pixels are upsampled by the scales. parts : (H, W) of each, H being s times the
    map's where it is not made before the upsampling, and one row more where blocks have a row in common.
    vectors : of 32 filters. joint : whether several convolutions are added up, which takes registers for one pixel.
    """
    batch, height, width = size

    def held(rows: int) -> int:
        """Bytes of a block's parts."""
        return sum((rows * (high // height) + high % height) * wide for high, wide in parts) * WORD * 4

    fitting = [r for r in range(1, min(height, 16) + 1) if height % r == 0 and held(r) <= _CACHE] or [1]
    rows = min(fitting, key=lambda r: -(-batch * (height // r) // threads) * (r + _SEAM))
    two = not joint and width % 2 == 0 and 2 * scales[0] * scales[1] * vectors <= 16
    return UpsampledTile(rows, 2 if two else 1)


def apply(sch: Schedule, target, decide: Decide = by_default) -> str:
    """Schedule a kernel of the "upsampled_conv" family in place; returns the name of the rule."""
    block, filters = _blocks(sch, target, decide)
    stages, lanes = Stages.of(sch), min(target.lanes32, WORD)
    for name in stages.starting("part_"):
        part = sch.get_sblock(name)
        own = lanes_of(sch, part, lanes)
        vectors = min(2, extent(sch, sch.get_loops(part)[3]) // own // 2)
        _count(sch, part, filters, vectors, own)
    for name in stages.starting("pad"):
        copy_rows(sch, sch.get_sblock(name), block, target)
    return f"bconv2d-upsampled-{target.isa}"


def apply_matrix(sch: Schedule, target, decide: Decide = by_default) -> str:
    """Schedule a kernel of the "matrix_upsampled_conv" family in place; returns the name of the rule."""
    block, filters = _blocks(sch, target, decide)
    stages = Stages.of(sch)
    parts = [sch.get_sblock(name) for name in stages.starting("part_")]
    noted = sch.get(parts[0]).annotations
    shape = TileShape(int(noted["pixels"]), int(noted["tiles"]), WORD // TILE_FILTERS)
    configure(sch, block, shape)
    for part in parts:
        _multiply(sch, part, filters, shape)
    for name in stages.starting("bytes"):
        expand_rows(sch, sch.get_sblock(name), block)
    return f"bconv2d-upsampled-{target.matrix}-{shape.rows * shape.pixels}x{shape.stride}"


def _tile(sch: Schedule, scales: tuple[int, int], vectors: int, threads: int, decide: Decide) -> UpsampledTile:
    batch, rows, columns = _pixels(sch, sch.get_sblock("acc"))
    height, width = rows // scales[0], columns // scales[1]
    parts = [_pixels(sch, sch.get_sblock(name))[1:] for name in Stages.of(sch).starting("part_")]
    options = [UpsampledTile(r, p) for r in divisors(height, 16) for p in divisors(width, 4)]
    joint = bool(Stages.of(sch).starting("joint"))
    return decide("tile", options, choose_tile((batch, height, width), scales, parts, vectors, threads, joint))


def _pixels(sch: Schedule, block: SBlockRV) -> tuple[int, int, int]:
    """(N, H, W) of what a stage writes."""
    batch, height, width, _ = (int(e) for e in sch.get(block).writes[0].source.shape)
    return batch, height, width


def _scales(sch: Schedule, acc: SBlockRV) -> tuple[int, int]:
    """How many rows and columns of the output a pixel of the map has."""
    noted = sch.get(acc).annotations
    return int(noted["rows"]), int(noted["columns"])


def _blocks(sch: Schedule, target, decide: Decide) -> tuple[LoopRV, LoopRV]:
    """Share blocks of rows among the threads, place the epilogue; returns the loops over blocks and over filters."""
    (sy, sx), lanes = _scales(sch, sch.get_sblock("acc")), min(target.lanes32, WORD)
    vectors = WORD // lanes
    tile = _tile(sch, (sy, sx), vectors, target.threads, decide)
    joints = Stages.of(sch).starting("joint")
    if joints:  # they add up what the sums of a pixel are added up from
        for name in Stages.of(sch).starting("acc"):
            sch.compute_inline(sch.get_sblock(name))
    stages = Stages.of(sch)
    own = lanes_of(sch, sch.get_sblock(stages.starting("part_")[0]), lanes)  # of sums
    n, y, x, o = sch.get_loops(sch.get_sblock(joints[0] if joints else "acc"))
    yb, yi, ys = sch.split(y, [None, tile.rows, sy])
    xo, xi = sch.split(x, [None, tile.pixels * sx])
    sch.reorder(n, yb, o, yi, xo, ys, xi)
    block = sch.fuse(n, yb)
    sch.parallel(block)
    together = sy * tile.pixels * sx * vectors <= _UNROLLED
    tile_loop = xo if together else ys
    if joints:
        # columns of several convolutions are in registers for a vector of filters at a time, their masks for a word
        oo, og, om, ov = sch.split(o, [None, WORD // own, own // lanes, lanes])
        sch.reorder(oo, yi, xo, *((og, ys) if together else (ys, og)), xi, om, ov)
        fill_tile(sch, stages, xi, [om, ov], ConvTile(1, own // lanes), tile_loop)
        sch.unroll(og)
    else:
        og, vector = tile_loop, own
        oo, om, ov = sch.split(o, [None, WORD // vector, vector])
        sch.reorder(oo, yi, xo, ys, xi, om, ov)
        # masks are stored pixel by pixel: there are few registers for them
        fill_tile(sch, stages, xi, [om, ov], ConvTile(1, vectors))
        in_registers(sch, [om, ov])
        sch.set_scope(sch.get_sblock("acc"), 0, "local")
    for loop in [*([ys] if together else []), xi]:
        sch.unroll(loop)
    for name in stages.starting("column_"):
        column = sch.get_sblock(name)
        sch.compute_at(column, og, preserve_unit_loops=True)
        *outer, channels = inner_loops(sch, column, og)
        in_registers(sch, [*outer, *sch.split(channels, [None, own])])
        sch.set_scope(column, 0, "local")
    return block, oo


def _count(sch: Schedule, part: SBlockRV, filters: LoopRV, vectors: int, lanes: int) -> None:
    """Place the counts of a part: of one tile of pixels after the other, in registers."""
    pixels, noted = int(sch.get(part).annotations["pixels"]), sch.get(part).annotations
    whole = [each for each in sch.get_producers(part) if sch.get(each).name_hint.startswith("whole_")]
    if whole:  # sums of another dtype than the part's
        copy, (part,) = part, whole
        sch.set_scope(part, 0, "local")
    else:
        copy = sch.cache_write(part, 0, "local")
    tiles = []
    for each in (copy, part):
        _, _, x, o, *taps = sch.get_loops(each)
        xm, xi = sch.split(x, [None, pixels])
        # TVM does not find a single tile, nor tiles in rows that are no whole number of them
        oo, om, ov = sch.split(o, [None, vectors, lanes])
        sch.reorder(xm, oo, *taps, xi, om, ov)
        in_registers(sch, [xi, om, ov])
        tiles.append(sch.blockize(xi))
    stored, sums = tiles
    sch.compute_at(stored, filters, preserve_unit_loops=True)
    sch.compute_at(sums, inner_loops(sch, stored, filters)[-1], preserve_unit_loops=True)
    ky, kx, kc = sch.get_loops(sums)[-3:]
    if "unrolled" in noted:
        sch.unroll(kc)
    else:
        sch.fuse(kx, kc)
    zero = sch.decompose_reduction(sums, ky)
    for each in sch.get_child_blocks(zero):
        in_registers(sch, sch.get_loops(each)[-3:])


def _multiply(sch: Schedule, part: SBlockRV, filters: LoopRV, shape: TileShape) -> None:
    """Place the products of a part: of one tile of pixels and filters after the other, in tile registers."""
    copy = sch.cache_write(part, 0, "local")
    sch.set_scope(copy, 0, "local")
    tiles = []
    for each in (copy, part):
        _, _, x, o, *taps = sch.get_loops(each)
        xm, xv = sch.split(x, [None, shape.pixels])
        om, ov = sch.split(o, [None, TILE_FILTERS])
        sch.reorder(xm, om, *taps[:3], xv, ov, *taps[3:])
        tiles.append(sch.blockize(xv))
    stored, sums = tiles
    sch.compute_at(stored, filters, preserve_unit_loops=True)
    _, _, x, o = inner_loops(sch, stored, filters)
    xb, xm = sch.split(x, [None, shape.rows])
    sch.reorder(xb, xm, o)
    sch.compute_at(sums, xb, preserve_unit_loops=True)
    xm_, om_, ky, kx, kb, *_ = inner_loops(sch, sums, xb)[2:]
    sch.reorder(ky, kx, kb, xm_, om_)
    zero = sch.decompose_reduction(sums, ky)
    for loop in (xm, o, xm_, om_, *sch.get_loops(zero)[-2:]):
        sch.unroll(loop)
    sch.tensorize(zero, shape.zero())
    sch.tensorize(sums, shape.multiply(1, "pixels"))
    sch.tensorize(stored, shape.store())
