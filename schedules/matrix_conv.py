"""Binary convolutions on a matrix unit: one tile of pixels x filters in its registers.

    parallel (image, group of filters, block of rows):
        expand the rows of input that the block reads to bytes                   bytes
        for each row, tile of pixels, 32 filters:
            accumulators = 0                                                     in tile registers
            for each tap, for each 64 channels:
                accumulators += input tile (*) weight tile
            store the accumulators                                               in the first-level cache
            for each pixel of the tile: epilogue, masks and words of bits

Loops run over filters inside pixels, so that a pixel's channels are written together, unless the weights exceed the
second-level cache.
"""

from dataclasses import dataclass
from math import prod

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_bnn.lower.layout import WORD
from tvm_bnn.lower.matrix import TILE_FILTERS, pixels_of_tile
from tvm_bnn.schedules.elementwise import place_readers
from tvm_bnn.schedules.stages import Stages, extent, inner_loops, vectorize_channels
from tvm_bnn.schedules.tiles import TileShape, configure

_FILTERS = 2 * TILE_FILTERS  # of a tile of output: a word of bits
#: Bytes of expanded input, and of weights, that stay in the second-level cache.
_CACHE = 1 << 20


@dataclass(frozen=True)
class MatrixTile:
    """Decisions of the template: pixels of a register and how many of them, rows of a block, groups of filters."""

    pixels: int
    tiles: int
    rows: int
    groups: int


def choose_tile(
    size: tuple[int, ...], taps: int, row_bytes: int, row_step: int, window: int, threads: int
) -> MatrixTile:
    """The default decisions: the least estimated cycles of the thread that has most to do.

    size : (N, H, W, O) of the result. taps : products of an output. row_bytes : expanded bytes of a row of input;
    a block of rows r reads (r - 1) * row_step + window of them.
    """
    batch, height, width, filters = size
    pixels = pixels_of_tile(width)
    tiles = 2 if width // pixels % 2 == 0 else 1
    blocks = filters // _FILTERS
    best, least = MatrixTile(pixels, tiles, 1, 1), float("inf")
    for rows in (r for r in range(1, min(height, 16) + 1) if height % r == 0):
        read = ((rows - 1) * row_step + window) * row_bytes
        if read > _CACHE and rows > 1:
            continue
        for groups in (g for g in range(1, blocks + 1) if blocks % g == 0):
            # 1024 products and about 16 expanded bytes a cycle; 300 cycles to begin a block
            cycles = rows * width * filters // groups * taps / 1024 + read / 16 + 300
            share = -(-batch * groups * (height // rows) // threads) * cycles
            if share < least:
                best, least = MatrixTile(pixels, tiles, rows, groups), share
    return best


def apply(sch: Schedule, target, tile: MatrixTile | None = None) -> str:
    """Schedule a kernel of the "matrix_conv" family in place; returns the name of the rule.

    tile : decisions, by default those of ``choose_tile``.
    """
    stages = Stages.of(sch)
    joint = stages.has("joint")
    accs = [sch.get_sblock(name) for name in stages.starting("acc")]
    inputs = [sch.get_sblock(name) for name in stages.starting("bytes")]
    size = _shape(sch, accs[0])
    if tile is None:
        tile = _default_tile([_shape(sch, block) for block in inputs], size, _taps(sch, accs), target.threads)
    shape = TileShape(tile.pixels, tile.tiles, 2)
    root = sch.get_sblock("joint") if joint else accs[0]
    n, y, x, o, *_ = sch.get_loops(root)
    yo, yi = sch.split(y, [None, tile.rows])
    xo, xi = sch.split(x, [None, tile.tiles * tile.pixels])
    og, oo, oi = sch.split(o, [tile.groups, None, _FILTERS])
    together = _taps(sch, accs) * size[3] // tile.groups <= _CACHE
    at = oo if together else xo
    sch.reorder(n, og, yo, *((yi, xo, oo) if together else (oo, yi, xo)), xi, oi)
    block = sch.fuse(n, og, yo)
    sch.parallel(block)
    configure(sch, block, shape)
    sums = [(acc, _store_sums(sch, acc, at, acc is not root)) for acc in accs]
    names = [*(["joint"] if joint else []), *stages.values]
    first = sch.get_sblock(names[0])
    if not joint:
        sch.reverse_compute_at(first, at, preserve_unit_loops=True)
    pixel, channels = inner_loops(sch, first, at)[-2:]
    for loop in vectorize_channels(sch, channels, target.lanes32)[:-1]:
        sch.unroll(loop)
    if joint:
        sch.set_scope(first, 0, "local")
    place_readers(sch, names, pixel, target, {names[0]: pixel})
    for source in inputs:
        sch.compute_at(source, block, preserve_unit_loops=True)
        vectorize_channels(sch, inner_loops(sch, source, block)[-1], WORD)
    for acc, store in sums:
        _tensorize(sch, acc, store, at, shape)
    return f"bconv2d-{target.matrix}-{tile.tiles * tile.pixels}x{_FILTERS}"


def _shape(sch: Schedule, block: SBlockRV) -> tuple[int, ...]:
    """Shape of what a stage writes."""
    return tuple(int(e) for e in sch.get(block).writes[0].source.shape)


def _taps(sch: Schedule, accs: list[SBlockRV]) -> int:
    """Products of one output, of all its sums."""
    return sum(prod(extent(sch, loop) for loop in sch.get_loops(acc)[-5:]) for acc in accs)


def _default_tile(inputs: list[tuple[int, ...]], size: tuple[int, ...], taps: int, threads: int) -> MatrixTile:
    rows = max(shape[1] for shape in inputs)
    step = max(rows // size[1], 1)
    row_bytes = sum(shape[2] * shape[3] for shape in inputs)
    return choose_tile(size, taps, row_bytes, step, rows - (size[1] - 1) * step, threads)


def _store_sums(sch: Schedule, acc: SBlockRV, at: LoopRV, place: bool) -> SBlockRV:
    """Place a sum in the tile (unless it has the tile's own loops), and the copy of it that the epilogue reads."""
    if place:
        sch.compute_at(acc, at, preserve_unit_loops=True)
    store = sch.cache_write(acc, 0, "local")
    if not place:
        sch.reverse_compute_at(store, at, preserve_unit_loops=True)
    sch.set_scope(store, 0, "local")
    return store


def _tensorize(sch: Schedule, acc: SBlockRV, store: SBlockRV, at: LoopRV, shape: TileShape) -> None:
    """Turn a sum and its copy into loads, products and stores of tiles."""

    def tiles(x: LoopRV, o: LoopRV) -> tuple[list[LoopRV], list[LoopRV]]:
        xm, xv = sch.split(x, [shape.rows, shape.pixels])
        om, ov = sch.split(o, [shape.columns, TILE_FILTERS])
        return [xm, om], [xv, ov]

    step = int(sch.get(acc).annotations["step"])
    x, o, ky, kx, kb, kq, kr = inner_loops(sch, acc, at)[-7:]
    outer, inner = tiles(x, o)
    sch.reorder(ky, kx, kb, *outer, *inner, kq, kr)
    sch.fuse(kx, kb)
    zero = sch.decompose_reduction(acc, ky)
    sch.tensorize(inner[0], shape.multiply(step))
    *_, xm, om, xv, _ = inner_loops(sch, zero, at)
    sch.tensorize(xv, shape.zero())
    copied, inner = tiles(*inner_loops(sch, store, at)[-2:])
    sch.reorder(*copied, *inner)
    sch.tensorize(inner[0], shape.store())
    for loop in (*outer, xm, om, *copied):
        sch.unroll(loop)
