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
    groups: int = 1


@dataclass(frozen=True)
class _Sums:
    """The stages of convolutions that share a tile: accumulators, what joins them (if anything), what reads them."""

    accs: list[SBlockRV]
    joint: SBlockRV | None
    values: list[str]

    @classmethod
    def of(cls, sch: Schedule, stages: Stages, suffix: str, values: list[str]) -> "_Sums":
        """The stages whose names end in a suffix ("_0" of a source, or none)."""
        accs = [name for name in stages.starting(f"acc{suffix}") if suffix or not name.startswith("acc_0")]
        joint = f"joint{suffix}"
        names = [joint, *values] if stages.has(joint) else values
        return cls([sch.get_sblock(name) for name in accs], sch.get_sblock(joint) if stages.has(joint) else None, names)

    @property
    def root(self) -> SBlockRV:
        """The stage whose loops are the tile's."""
        return self.joint or self.accs[0]

    def weights(self, sch: Schedule) -> int:
        """Bytes of all weights."""
        return _taps(sch, self.accs) * _shape(sch, self.root)[3]


def choose_tile(
    size: tuple[int, ...], taps: int, row_bytes: int, row_step: int, window: int, threads: int, whole: bool = False
) -> MatrixTile:
    """The default decisions: the least estimated cycles of the thread that has most to do.

    size : (N, H, W, O) of the result. taps : products of an output. row_bytes : what a row of input takes, expanded;
    a block of rows r reads (r - 1) * row_step + window of them. whole : all filters of a pixel in one block.
    """
    batch, height, width, filters = size
    pixels = pixels_of_tile(width)
    tiles = 2 if width // pixels % 2 == 0 else 1
    blocks = 1 if whole else filters // _FILTERS
    best, least = MatrixTile(pixels, tiles, 1), float("inf")
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
    sums = _Sums.of(sch, stages, "", stages.values)
    inputs = [sch.get_sblock(name) for name in stages.starting("bytes")]
    if tile is None:
        tile = _default_tile(sch, sums, inputs, target.threads)
    shape = TileShape(tile.pixels, tile.tiles, 2)
    block = _blocks(sch, sums, tile)
    configure(sch, block, shape)
    stores = _place(sch, sums, block, shape, target)
    _finish(sch, block, inputs, stores, shape)
    return f"bconv2d-{target.matrix}-{tile.tiles * tile.pixels}x{_FILTERS}"


def apply_pair(sch: Schedule, target, tile: MatrixTile | None = None) -> str:
    """Schedule a kernel of the "matrix_conv_pair" family in place; returns the name of the rule.

    A block makes all channels of its rows of the first convolution, as bytes, before the second, a 1x1 convolution,
    reads them; numbers that the second's epilogue reads stay in the second-level cache.
    """
    stages = Stages.of(sch)
    maps = [*stages.starting("map_"), "bytes"]
    first, second = _Sums.of(sch, stages, "_0", maps), _Sums.of(sch, stages, "", stages.values)
    inputs = [sch.get_sblock(name) for name in stages.starting("bytes_0")]
    if tile is None:
        tile = _default_tile(sch, first, [*inputs, *map(sch.get_sblock, maps)], target.threads, whole=True)
    shape = TileShape(tile.pixels, tile.tiles, 2)
    block = _blocks(sch, second, tile)
    configure(sch, block, shape)
    stores = _place(sch, second, block, shape, target)
    for name in reversed(maps):
        sch.compute_at(sch.get_sblock(name), block, preserve_unit_loops=True)
    for made in [*([first.joint] if first.joint else []), *first.accs]:
        sch.compute_at(made, block, preserve_unit_loops=True)
    stores += _place(sch, first, block, shape, target)
    _finish(sch, block, inputs, stores, shape)
    return f"bconv2d-pair-{target.matrix}-{tile.tiles * tile.pixels}x{_FILTERS}"


def _blocks(sch: Schedule, sums: _Sums, tile: MatrixTile) -> LoopRV:
    """The parallel loop over blocks of rows; the loops of the tile's stage lie inside."""
    n, y, x, o, *_ = sch.get_loops(sums.root)
    yo, yi = sch.split(y, [None, tile.rows])
    og, oi = sch.split(o, [tile.groups, None])
    sch.reorder(n, og, yo, yi, x, oi)
    block = sch.fuse(n, og, yo)
    sch.parallel(block)
    return block


def _place(
    sch: Schedule, sums: _Sums, block: LoopRV, shape: TileShape, target
) -> list[tuple[SBlockRV, SBlockRV, LoopRV]]:
    """Tile the loops of a block, place all that a tile computes; returns (sum, copy of it, tile's loop) of each."""
    loops = inner_loops(sch, sums.root, block)
    y, x, o = (loops if sums.joint else loops[:-5])[-3:]  # a sum has five loops of products
    xo, xi = sch.split(x, [None, shape.rows * shape.pixels])
    oo, oi = sch.split(o, [None, _FILTERS])
    together = sums.weights(sch) <= _CACHE
    at = oo if together else xo
    sch.reorder(*((y, xo, oo) if together else (oo, y, xo)), xi, oi)
    stores = [(acc, _store_sums(sch, acc, at, acc is not sums.root), at) for acc in sums.accs]
    first = sch.get_sblock(sums.values[0])
    if sums.joint is None:
        sch.reverse_compute_at(first, at, preserve_unit_loops=True)
    else:
        sch.set_scope(first, 0, "local")
    pixel, channels = inner_loops(sch, first, at)[-2:]
    for loop in vectorize_channels(sch, channels, target.lanes32)[:-1]:
        sch.unroll(loop)
    place_readers(sch, sums.values, pixel, target, {sums.values[0]: pixel})
    for name in sums.values:
        if name.startswith("sums_"):
            sch.decompose_reduction(sch.get_sblock(name), xo)
    return stores


def _finish(sch: Schedule, block: LoopRV, inputs: list[SBlockRV], stores, shape: TileShape) -> None:
    """Expand the rows that a block reads; turn sums into products of tiles."""
    for source in inputs:
        sch.compute_at(source, block, preserve_unit_loops=True)
        vectorize_channels(sch, inner_loops(sch, source, block)[-1], WORD)
    for acc, store, at in stores:
        _tensorize(sch, acc, store, at, shape)


def _shape(sch: Schedule, block: SBlockRV) -> tuple[int, ...]:
    """Shape of what a stage writes."""
    return tuple(int(e) for e in sch.get(block).writes[0].source.shape)


def _taps(sch: Schedule, accs: list[SBlockRV]) -> int:
    """Products of one output, of all its sums."""
    return sum(prod(extent(sch, loop) for loop in sch.get_loops(acc)[-5:]) for acc in accs)


def _default_tile(sch: Schedule, sums: _Sums, inputs: list[SBlockRV], threads: int, whole: bool = False) -> MatrixTile:
    size, shapes = _shape(sch, sums.root), [_shape(sch, block) for block in inputs]
    rows = max(shape[1] for shape in shapes)
    step = max(rows // size[1], 1)
    width = {"int8": 1, "float32": 4, "int32": 4}
    held = sum(
        shape[2] * shape[3] * width[str(sch.get(block).writes[0].source.dtype)]
        for shape, block in zip(shapes, inputs, strict=True)
    )
    return choose_tile(size, _taps(sch, sums.accs), held, step, rows - (size[1] - 1) * step, threads, whole)


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
