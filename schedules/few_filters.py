"""Float convolutions with few filters: a register tile of filters x vectors of neighbouring pixels.

    parallel (image, block of rows, block of columns):
        turn the input that the block needs: each channel's pixels side by side      pad
        for each row, tile of vectors:
            for each tap, for each input channel:
                accumulators[filter][vector] += input[vector] * weight               in registers
            epilogue on the accumulators
"""

from itertools import product
from typing import NamedTuple

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_bnn.schedules.conv import in_registers
from tvm_bnn.schedules.decide import Decide, by_default, divisors
from tvm_bnn.schedules.stages import Stages, extent, inner_loops

#: Bytes of turned input, and the work of turning an element where a step of a vector's sum is 1.
_CACHE, _TURNING = 256 << 10, 1.0


class PixelTile(NamedTuple):
    """A decision of the template: vectors of pixels in a register tile, rows and tiles of a row in a block."""

    vectors: int
    rows: int
    tiles: int


def tiles(filters: int, height: int, width: int, target) -> list[PixelTile]:
    """What may be decided: all tiles whose accumulators fit the registers."""
    vectors = [v for v in divisors(width // target.lanes32, 8) if v * filters <= max(target.registers, filters)]
    return [
        PixelTile(v, rows, run)
        for v in vectors
        for rows, run in product(divisors(height, 64), divisors(width // (v * target.lanes32)))
    ]


def choose_tile(sizes: tuple[int, int, int], taps: tuple[int, int, int], target) -> PixelTile:
    """The default: as many vectors as registers allow; blocks whose turned input stays in the second-level cache.

    sizes : filters, height, width. taps : rows and columns of the kernel, channels.
    """
    (filters, height, width), (ky, kx, channels) = sizes, taps
    lanes, budget = target.lanes32, target.registers - 2
    vectors = max(v for v in range(1, 9) if width % (v * lanes) == 0 and v * (filters + 1) <= max(budget, filters + 1))
    best, least = PixelTile(vectors, 1, 1), float("inf")
    runs = width // (vectors * lanes)
    for rows, tiles in product(divisors(height), divisors(runs)):
        pixels = tiles * vectors * lanes
        read = (rows + ky - 1) * (pixels + kx - 1) * channels
        if read * 4 > _CACHE and (rows, tiles) != (1, 1):
            continue
        work = read * _TURNING + rows * pixels * channels * ky * kx * filters / lanes
        total = -(-(height // rows) * (runs // tiles) // target.threads) * work
        if total < least:
            best, least = PixelTile(vectors, rows, tiles), total
    return best


def apply(sch: Schedule, target, decide: Decide = by_default) -> str:
    """Schedule a kernel of the "few_filters" family in place; returns the name of the rule."""
    stages = Stages.of(sch)
    acc, pad = sch.get_sblock("acc"), sch.get_sblock("pad")
    n, o, y, x, *taps = sch.get_loops(acc)
    sizes = extent(sch, o), extent(sch, y), extent(sch, x)
    default = choose_tile(sizes, (extent(sch, taps[0]), extent(sch, taps[1]), extent(sch, taps[2])), target)
    tile = decide("tile", tiles(*sizes, target), default)
    yo, yi = sch.split(y, [None, tile.rows])
    xb, xo, xi, xv = sch.split(x, [None, tile.tiles, tile.vectors, target.lanes32])
    sch.reorder(n, yo, xb, yi, xo, *taps, o, xi, xv)
    in_registers(sch, [o, xi, xv])
    blocks = sch.fuse(n, yo, xb)
    sch.parallel(blocks)
    for name in stages.values:
        _place_value(sch, sch.get_sblock(name), xo, tile, target)
    _turn(sch, pad, blocks)
    sch.set_scope(acc, 0, "local")
    sch.decompose_reduction(acc, taps[0])
    return f"conv2d-{target.isa}-pixels-{tile.vectors}x{extent(sch, o)}"


def _place_value(sch: Schedule, value: SBlockRV, xo: LoopRV, tile: PixelTile, target) -> None:
    """Compute a value of the epilogue for a tile: its channels one by one, whichever axis of memory they are."""
    sch.reverse_compute_at(value, xo, preserve_unit_loops=True)
    *_, first, second, third = inner_loops(sch, value, xo)
    channels_last = extent(sch, third) < tile.vectors * target.lanes32
    y, x, c = (first, second, third) if channels_last else (second, third, first)
    xi, xv = sch.split(x, [tile.vectors, target.lanes32])
    sch.reorder(y, c, xi, xv)
    in_registers(sch, [c, xi, xv])


def _turn(sch: Schedule, pad: SBlockRV, blocks: LoopRV) -> None:
    """Copy the input of a block, in the order of its source."""
    sch.compute_at(pad, blocks, preserve_unit_loops=True)
    if "turned" in sch.get(pad).annotations:
        _, c, y, x = inner_loops(sch, pad, blocks)
        sch.reorder(y, x, c)
