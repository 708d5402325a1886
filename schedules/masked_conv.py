"""Maps of binary convolutions, a mask made of all their channels, and what it is spread over: attention over positions.

    parallel (image, block of rows):
        copy, or expand, the rows of input that the block needs                      pad_0, bytes_0
        for each row, run of pixels:
            for each map, tile: accumulators of its convolutions, epilogue           acc_0 ..., map_i
            for each tile of pixels: for each channel: the mask's sums               acc
            for each pixel: the mask; masked maps, their bits, what merges them      level_i, joint ..., outputs

The maps of a run of pixels stay in the first-level cache, so none is stored, and the mask is a number in a register.
"""

from math import lcm

from tvm import DataType
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_bnn.lower.layout import WORD
from tvm_bnn.lower.matrix import pixels_of_tile
from tvm_bnn.schedules.conv import blocks_of_rows, copy_rows, decide_tile, in_registers, sums_of_tile
from tvm_bnn.schedules.decide import Decide, by_default, divisors
from tvm_bnn.schedules.elementwise import place_readers
from tvm_bnn.schedules.matrix_conv import TileSums, finish_tiles, place_tiles
from tvm_bnn.schedules.stages import Stages, extent, inner_loops, vectorize_channels
from tvm_bnn.schedules.tiles import TileShape, configure
from tvm_bnn.schedules.turn import turn

#: Bytes of the maps of a run of pixels, and the most pixels of one.
_CACHE, _MOST_PIXELS = 24 << 10, 64


def apply(sch: Schedule, target, decide: Decide = by_default) -> str:
    """Schedule a kernel of the "masked_conv" family in place; returns the name of the rule.

    Decides the register tile of the maps, the pixels of a run and the rows of a block.
    """
    stages = Stages.of(sch)
    accs, pads = _starting(sch, stages, "acc_0"), _starting(sch, stages, "pad_0")
    maps = _starting(sch, stages, "map_")
    tile, _, tables = decide_tile(sch, accs, target, False, True, None, decide)
    block, run = _runs(sch, stages, maps, pads, tile.pixels, target, decide)
    lanes = min(target.lanes32, extent(sch, sch.get_loops(maps[0])[-1]))
    sums = []
    for made in maps:
        *_, y, x, o = inner_loops(sch, made, run)
        xo, xi = sch.split(x, [None, tile.pixels])
        oo, om, ov = sch.split(o, [None, tile.vectors * target.lanes32 // lanes, lanes])
        sch.reorder(oo, y, xo, xi, om, ov)
        in_registers(sch, [xi, om, ov])
        for acc in _sums_of(sch, made):
            sums += sums_of_tile(sch, acc, xo, tile, lanes)
    for pad in pads:
        copy_rows(sch, pad, block, target)
    for acc, first in sums:
        sch.set_scope(acc, 0, "local")
        sch.decompose_reduction(acc, first)
    kind = "-tables" if tables else ""
    return f"bconv2d-masked-{target.isa}{kind}-{tile.pixels}x{tile.vectors}"


def apply_matrix(sch: Schedule, target, decide: Decide = by_default) -> str:
    """Schedule a kernel of the "matrix_masked_conv" family in place; returns the name of the rule.

    Decides the tiles of the maps, the pixels of a run and the rows of a block.
    """
    stages = Stages.of(sch)
    names = stages.starting("map_")
    maps, inputs = _starting(sch, stages, "map_"), _starting(sch, stages, "bytes_0")
    width = int(sch.get(maps[0]).writes[0].source.shape[2])
    pixels = pixels_of_tile(width)
    registers = divisors(width // pixels, 2)
    shape = TileShape(pixels, decide("registers", registers, registers[-1]), 2)
    block, run = _runs(sch, stages, maps, inputs, shape.rows * pixels, target, decide)
    configure(sch, block, shape)
    stores = []
    for name, made in zip(names, maps, strict=True):
        sums = TileSums(_sums_of(sch, made), [made], [name])
        for acc in sums.accs:
            sch.compute_at(acc, run, preserve_unit_loops=True)
        stores += place_tiles(sch, sums, run, shape, target, decide)
    finish_tiles(sch, block, inputs, stores, shape)
    return f"bconv2d-masked-{target.matrix}-{shape.rows * pixels}x{shape.stride}"


def _starting(sch: Schedule, stages: Stages, prefix: str) -> list[SBlockRV]:
    """Stages with a prefix; those of the maps' sums end in _0 or _0_1 and so on, those of the mask's in nothing."""
    return [sch.get_sblock(name) for name in stages.starting(prefix)]


def _sums_of(sch: Schedule, made: SBlockRV) -> list[SBlockRV]:
    """The sums that a map is made of."""
    return [block for block in sch.get_producers(made) if sch.get(block).name_hint.startswith("acc")]


def _runs(
    sch: Schedule, stages: Stages, maps: list[SBlockRV], inputs: list[SBlockRV], tile: int, target, decide: Decide
) -> tuple[LoopRV, LoopRV]:
    """Place the mask, what it is spread over, and the maps; returns the loops over blocks of rows and runs of pixels.

    inputs : what a block copies of its rows. tile : pixels of a tile of the maps.
    """
    _, _, width, channels = (int(e) for e in sch.get(maps[0]).writes[0].source.shape)
    turned = _starting(sch, stages, "turned_")
    step = lcm(tile, target.lanes32) if turned else tile
    fitting = [p for p in divisors(width, max(_MOST_PIXELS, step)) if p % step == 0]
    held = len(maps) * channels * DataType("float32").itemsize
    default = max((p for p in fitting if p * held <= _CACHE), default=step)
    joints = _starting(sch, stages, "joint")
    n, y, x, o = sch.get_loops(joints[0])
    run, pixel = sch.split(x, [None, decide("run", fitting, default)])
    word, channel = sch.split(o, [None, WORD])
    block = blocks_of_rows(sch, [n, y], inputs, target.threads, decide)
    for loop in vectorize_channels(sch, channel, target.lanes32)[:-1]:
        sch.unroll(loop)
    place_readers(sch, stages.values, word, target)
    for level in _starting(sch, stages, "level_"):
        sch.compute_at(level, pixel, preserve_unit_loops=True)
    _sum_channels(sch, run, len(maps), target, bool(turned))
    for copied in turned:
        sch.compute_at(copied, run, preserve_unit_loops=True)
        sch.set_scope(copied, 0, "local")
    for made in reversed(maps):
        sch.compute_at(made, run, preserve_unit_loops=True)
    for made in [*joints, *maps]:
        sch.set_scope(made, 0, "local")
    for copied in turned:
        turn(sch, copied, run, target.lanes32)
    return block, run


def _sum_channels(sch: Schedule, run: LoopRV, maps: int, target, turned: bool) -> None:
    """Add up what the mask weighs: pixels side by side, for each waits for the channel before.

    turned : they are read as vectors.
    """
    acc = sch.get_sblock("acc")
    sch.compute_at(acc, run, preserve_unit_loops=True)
    *_, x, _, ky, kx, kc = inner_loops(sch, acc, run)
    if turned:
        x, vector = sch.split(x, [None, target.lanes32])
        sch.vectorize(vector)
    xo, xi = sch.split(x, [None, divisors(extent(sch, x), target.registers // 2)[-1]])
    of, channel = sch.split(kc, [maps if extent(sch, kc) % maps == 0 else 1, None])  # which map: no question inside
    sch.reorder(xo, ky, kx, of, channel, xi, *([vector] if turned else []))
    sch.unroll(of)
    sch.unroll(xi)
    sch.set_scope(acc, 0, "local")
    sch.decompose_reduction(acc, ky)
