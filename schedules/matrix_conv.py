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
from itertools import product
from math import prod
from typing import NamedTuple

from tvm import DataType
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_bnn.lower.layout import WORD
from tvm_bnn.lower.matrix import BYTES, HALVES, TILE_FILTERS, TILE_PIXELS, Operands, pixels_of_tile
from tvm_bnn.schedules.decide import Decide, by_default, divisors
from tvm_bnn.schedules.elementwise import place_readers
from tvm_bnn.schedules.stages import Stages, extent, inner_loops, vectorize_channels
from tvm_bnn.schedules.tiles import TileShape, configure

_FILTERS = 2 * TILE_FILTERS  # of a tile of output: a word of bits
#: Bytes of expanded input, and of weights, that stay in the second-level cache.
_CACHE = 1 << 20


class MatrixTile(NamedTuple):
    """A decision of the template: pixels of a register and how many of them, rows of a block, groups of filters."""

    pixels: int
    tiles: int
    rows: int
    groups: int = 1


@dataclass(frozen=True)
class TileSums:
    """The stages of convolutions that share a tile: accumulators, what joins them (if anything), what reads them.

    joints : they share their loops. values : those in the tile, joints first.
    """

    accs: list[SBlockRV]
    joints: list[SBlockRV]
    values: list[str]

    @classmethod
    def of(cls, sch: Schedule, stages: Stages, suffix: str, values: list[str]) -> "TileSums":
        """The stages whose names end in a suffix ("_0" of a source, or none)."""
        accs = [name for name in stages.starting(f"acc{suffix}") if suffix or not name.startswith("acc_0")]
        joints = [name for name in stages.starting(f"joint{suffix}") if suffix or not name.startswith("joint_0")]
        return cls([sch.get_sblock(name) for name in accs], [sch.get_sblock(name) for name in joints], joints + values)

    @property
    def root(self) -> SBlockRV:
        """The stage whose loops are the tile's."""
        return (self.joints or self.accs)[0]

    def rule(self, sch: Schedule, target, shape: TileShape) -> str:
        """What the schedule is called."""
        noted = sch.get(self.accs[0]).annotations["rule"]
        return f"{noted}-{target.matrix}-{shape.rows * shape.pixels}x{shape.stride}"

    def operands(self, sch: Schedule) -> Operands:
        """What is multiplied."""
        return next(o for o in (BYTES, HALVES) if o.sums == _dtype(sch, self.accs[0]))

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


def apply(sch: Schedule, target, decide: Decide = by_default) -> str:
    """Schedule a kernel of the "matrix_conv" family in place; returns the name of the rule.

    Decides the tile, and whether loops over filters run inside those over pixels.
    """
    stages = Stages.of(sch)
    sums = TileSums.of(sch, stages, "", stages.values)
    inputs = [sch.get_sblock(name) for name in stages.starting("bytes")]
    for source in inputs:
        flatten_words(sch, source)
    tile = _tile(sch, sums, inputs, target.threads, decide)
    shape = TileShape(tile.pixels, tile.tiles, 2, sums.operands(sch))
    rule = sums.rule(sch, target, shape)
    block = _blocks(sch, sums, tile)
    configure(sch, block, shape)
    stores = place_tiles(sch, sums, block, shape, target, decide)
    finish_tiles(sch, block, inputs, stores, shape)
    return rule


def apply_pair(sch: Schedule, target, decide: Decide = by_default) -> str:
    """Schedule a kernel of the "matrix_conv_pair" family in place; returns the name of the rule.

    A block makes all channels of its rows of the first convolution, as bytes, before the second, a 1x1 convolution (or
    several, each of bits of its own), reads them; numbers that the second's epilogue reads stay in the second-level
    cache.
    """
    stages = Stages.of(sch)
    inputs = stages.starting("bytes_0")
    maps = [*stages.starting("map_"), *(name for name in stages.starting("bytes") if name not in inputs)]
    first, second = TileSums.of(sch, stages, "_0", maps), TileSums.of(sch, stages, "", stages.values)
    tile = _tile(sch, first, [sch.get_sblock(name) for name in inputs + maps], target.threads, decide, whole=True)
    shape = TileShape(tile.pixels, tile.tiles, 2)
    block = _blocks(sch, second, tile)
    configure(sch, block, shape)
    stores = place_tiles(sch, second, block, shape, target, decide)
    for name in reversed(maps):
        sch.compute_at(sch.get_sblock(name), block, preserve_unit_loops=True)
    for made in [*first.joints, *first.accs]:
        sch.compute_at(made, block, preserve_unit_loops=True)
    stores += place_tiles(sch, first, block, shape, target, decide)
    finish_tiles(sch, block, [sch.get_sblock(name) for name in inputs], stores, shape)
    return f"bconv2d-pair-{target.matrix}-{tile.tiles * tile.pixels}x{_FILTERS}"


def _blocks(sch: Schedule, sums: TileSums, tile: MatrixTile) -> LoopRV:
    """The parallel loop over blocks of rows; the loops of the tile's stage lie inside."""
    n, y, x, o, *_ = sch.get_loops(sums.root)
    yo, yi = sch.split(y, [None, tile.rows])
    og, oi = sch.split(o, [tile.groups, None])
    sch.reorder(n, og, yo, yi, x, oi)
    block = sch.fuse(n, og, yo)
    sch.parallel(block)
    return block


def place_tiles(
    sch: Schedule, sums: TileSums, block: LoopRV, shape: TileShape, target, decide: Decide
) -> list[tuple[SBlockRV, SBlockRV, LoopRV]]:
    """Tile the loops of a block, place all that a tile computes; returns (sum, copy of it, tile's loop) of each."""
    loops = inner_loops(sch, sums.root, block)
    y, x, o = (loops if sums.joints else loops[:-5])[-3:]  # a sum has five loops of products
    xo, xi = sch.split(x, [None, shape.rows * shape.pixels])
    oo, oi = sch.split(o, [None, _FILTERS])
    name = sch.get(sums.root).name_hint
    together = decide(f"filters inside pixels of {name}", (0, 1), int(sums.weights(sch) <= _CACHE))
    at = oo if together else xo
    sch.reorder(*((y, xo, oo) if together else (oo, y, xo)), xi, oi)
    stores = [(acc, _store_sums(sch, acc, at, acc is not sums.root), at) for acc in sums.accs]
    first = sch.get_sblock(sums.values[0])
    if not sums.joints:
        sch.reverse_compute_at(first, at, preserve_unit_loops=True)
    for joint in sums.joints:
        sch.set_scope(joint, 0, "local")
    pixel, channels = inner_loops(sch, first, at)[-2:]
    for loop in vectorize_channels(sch, channels, target.lanes32)[:-1]:
        sch.unroll(loop)
    placed = dict.fromkeys(sums.values[: max(len(sums.joints), 1)], pixel)
    place_readers(sch, sums.values, pixel, target, placed)
    for name in sums.values:
        if name.startswith("sums_"):
            sch.decompose_reduction(sch.get_sblock(name), xo)
    return stores


def finish_tiles(sch: Schedule, block: LoopRV, inputs: list[SBlockRV], stores, shape: TileShape) -> None:
    """Expand the rows that a block reads; turn sums into products of tiles."""
    for source in inputs:
        expand_rows(sch, source, block)
    for acc, store, at in stores:
        _tensorize(sch, acc, store, at, shape)


def flatten_words(sch: Schedule, source: SBlockRV) -> None:
    """Let rows of words lie as a run; to be done before tiles are cut, which read them as such."""
    if _kind(sch, source) == "words":
        vector = _shape(sch, source)[-1]
        sch.transform_layout(source, ("write", 0), lambda n, y, block, i: (n, y, block * vector + i))


def expand_rows(sch: Schedule, source: SBlockRV, block: LoopRV) -> None:
    """Expand the rows that a block reads, in vectors of channels; words before all blocks, in vectors of pixels."""
    kind, pixel = _kind(sch, source), int(sch.get(source).annotations["pixel"])
    if kind == "words":
        n, y, _, row = sch.get_loops(source)
        sch.parallel(sch.fuse(n, y))
        x, word = sch.split(row, [TILE_PIXELS, pixel])
        sch.reorder(word, x)
        sch.unroll(word)
        sch.vectorize(x)
        return
    sch.compute_at(source, block, preserve_unit_loops=True)
    row = inner_loops(sch, source, block)[-1]
    if kind == "pixels":
        vectorize_channels(sch, row, WORD)
    else:
        vectorize_channels(sch, sch.split(row, [None, pixel])[1], WORD if pixel % WORD == 0 else TILE_PIXELS)


def _kind(sch: Schedule, source: SBlockRV) -> str:
    """How the rows of a stage lie; see `Rows`."""
    return str(sch.get(source).annotations["rows"])


def _dtype(sch: Schedule, block: SBlockRV) -> str:
    """Element type of what a stage writes."""
    return str(sch.get(block).writes[0].source.dtype)


def _shape(sch: Schedule, block: SBlockRV) -> tuple[int, ...]:
    """Shape of what a stage writes."""
    return tuple(int(e) for e in sch.get(block).writes[0].source.shape)


def _taps(sch: Schedule, accs: list[SBlockRV]) -> int:
    """Products of one output, of all its sums."""
    return sum(prod(extent(sch, loop) for loop in sch.get_loops(acc)[-5:]) for acc in accs)


def _tile(
    sch: Schedule, sums: TileSums, inputs: list[SBlockRV], threads: int, decide: Decide, whole: bool = False
) -> MatrixTile:
    size, shapes = _shape(sch, sums.root), [_shape(sch, block) for block in inputs]
    rows = max(shape[1] for shape in shapes)
    step = max(rows // size[1], 1)
    held = sum(
        prod(shape[2:]) * DataType(_dtype(sch, block)).itemsize for shape, block in zip(shapes, inputs, strict=True)
    )
    default = choose_tile(size, _taps(sch, sums.accs), held, step, rows - (size[1] - 1) * step, threads, whole)
    _, height, width, filters = size
    registers, groups = divisors(width // default.pixels, 2), divisors(1 if whole else filters // _FILTERS)
    options = [MatrixTile(default.pixels, *rest) for rest in product(registers, divisors(height, 32), groups)]
    return decide("tile", options, default)


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

    step, kind = int(sch.get(acc).annotations["step"]), str(sch.get(acc).annotations["rows"])
    x, o, ky, kx, kb, kq, kr = inner_loops(sch, acc, at)[-7:]
    outer, inner = tiles(x, o)
    sch.reorder(ky, kx, kb, *outer, *inner, kq, kr)
    sch.fuse(kx, kb)
    zero = sch.decompose_reduction(acc, ky)
    sch.tensorize(inner[0], shape.multiply(step, kind))
    *_, xm, om, xv, _ = inner_loops(sch, zero, at)
    sch.tensorize(xv, shape.zero())
    copied, inner = tiles(*inner_loops(sch, store, at)[-2:])
    sch.reorder(*copied, *inner)
    sch.tensorize(inner[0], shape.store())
    for loop in (*outer, xm, om, *copied):
        sch.unroll(loop)


@dataclass(frozen=True)
class CutTiles:
    """A sum whose tiles are blocks of their own: they can be placed where the loops around them are not affine."""

    shape: TileShape
    sums: SBlockRV
    store: SBlockRV
    multiply: str

    @classmethod
    def of(cls, sch: Schedule, acc: SBlockRV, shape: TileShape) -> "CutTiles":
        """Cut a sum, and the copy of it that its readers read from now on."""
        noted = sch.get(acc).annotations
        multiply = shape.multiply(int(noted["step"]), str(noted["rows"]))
        store = sch.cache_write(acc, 0, "local")
        sch.set_scope(store, 0, "local")
        return cls(shape, cls._cut(sch, acc, shape.pixels), cls._cut(sch, store, shape.pixels), multiply)

    @staticmethod
    def _cut(sch: Schedule, block: SBlockRV, pixels: int) -> SBlockRV:
        _, _, x, o, *products = sch.get_loops(block)
        (xm, xv), (om, ov) = sch.split(x, [None, pixels]), sch.split(o, [None, TILE_FILTERS])
        sch.reorder(xm, om, *products[:3], xv, ov, *products[3:])
        return sch.blockize(xv)

    def place(self, sch: Schedule, at: LoopRV) -> None:
        """Compute the tiles that the body of a loop reads, in registers."""
        for block in (self.store, self.sums):
            sch.compute_at(block, at, preserve_unit_loops=True)
        xm, om, ky, kx, kb, *_ = inner_loops(sch, self.sums, at)[2:]
        sch.reorder(ky, kx, kb, xm, om)
        zero = sch.decompose_reduction(self.sums, ky)
        sch.tensorize(zero, self.shape.zero())
        sch.tensorize(self.sums, self.multiply)
        sch.tensorize(self.store, self.shape.store())
        for loop in (xm, om, *sch.get_loops(zero)[-2:], *sch.get_loops(self.store)[-2:]):
            sch.unroll(loop)
