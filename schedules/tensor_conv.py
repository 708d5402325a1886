"""Binary convolutions on tensor cores: a block has a tile of pixels x filters, and each of its warps a part of that.

    blocks of filters, blocks of pixels:
        for each chunk of the window's words:
            copy the chunk of all pixels, and of all filters             shared memory, all threads
            for each tile of words, of the warp's pixels, of its filters:
                sums += popcount(pixels (*) filters)                     registers of a warp
        store the sums                                                   shared memory
        values that read them, a thread an element                       as any kernel's (``threads``)

Rows of the copies are stored an odd number of four words apart, so that the threads of a warp, which read eight rows at
once, find each word in another bank.
"""

from typing import NamedTuple

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_bnn.gpus import WARP, BitProduct
from tvm_bnn.lower.layout import WORD
from tvm_bnn.lower.tensor_core import PIXELS
from tvm_bnn.schedules import threads
from tvm_bnn.schedules.bit_products import instructions, lane_of, register_of, registers
from tvm_bnn.schedules.decide import Decide, by_default, divisors
from tvm_bnn.schedules.stages import Stages, extent
from tvm_bnn.schedules.threads import Nest


class TensorTile(NamedTuple):
    """A decision of the template: warps of a block along pixels and along filters, and tiles of sums that each has."""

    warps_of_pixels: int
    warps_of_filters: int
    pixels: int
    filters: int

    @property
    def warps(self) -> int:
        """Of a block."""
        return self.warps_of_pixels * self.warps_of_filters

    def rows(self, product: BitProduct) -> int:
        """Pixels of a block."""
        return self.warps_of_pixels * self.pixels * product.rows

    def columns(self, product: BitProduct) -> int:
        """Filters of a block."""
        return self.warps_of_filters * self.filters * product.columns


#: Registers of a thread for sums, warps of a block, words of a row that is copied at once: at most.
_SUMS, _WARPS, _CHUNK = 64, 8, 32


def tiles(filters: int, product: BitProduct) -> list[TensorTile]:
    """What may be decided: whole tiles of pixels and filters, whose sums fit the registers of a thread."""
    found = []
    for pixels in divisors(PIXELS // product.rows):
        for columns in divisors(filters // product.columns):
            if columns * product.columns % WORD:
                continue
            for down in divisors(pixels):
                for across in divisors(columns, _WARPS // down if down <= _WARPS else 0):
                    tile = TensorTile(down, across, pixels // down, columns // across)
                    if tile.pixels * tile.filters * registers(product) <= _SUMS:
                        found.append(tile)
    return found


def choose_tile(filters: int, product: BitProduct) -> TensorTile:
    """The default: four warps, and the fewest loads from shared memory for a product. Not measured on a GPU."""
    left, right = product.rows // 8, 1  # registers of a tile for each 128 bits

    def loads(tile: TensorTile) -> tuple[int, float]:
        work = tile.pixels * tile.filters
        return abs(tile.warps - 4), (left * tile.pixels + right * tile.filters) / work

    return min(tiles(filters, product), key=loads)


def apply(sch: Schedule, target, decide: Decide = by_default) -> str:
    """Schedule a kernel of the "tensor_conv" family in place; returns the name of the rule."""
    product, stages = target.gpu.product, Stages.of(sch)
    sums = [name for name in stages.starting("acc") if stages.has(name.replace("acc", "window"))]
    filters = extent(sch, sch.get_loops(sch.get_sblock(sums[0]))[1])
    tile = decide("tile", tiles(filters, product), choose_tile(filters, product))
    scope = "shared" if len(stages.starting("acc")) == 1 else "global"
    home: dict[str, Nest] = {}
    tiled: list[tuple[LoopRV, str]] = []
    if scope == "shared":
        for name in stages.names:
            if name not in ("ones", "window", "acc"):
                _flatten(sch, sch.get_sblock(name))
                _hide_ones(sch, sch.get_sblock(name), stages)
    for name in sums:
        block, inner = _multiply(sch, name, tile, product, scope)
        tiled += zip(inner, instructions(product, scope), strict=True)
        for stage in (name, _stored(name), name.replace("acc", "window")):
            home[stage] = Nest(block, block, 0)
    stored = tuple(home)
    if scope == "shared":
        _begin_epilogue(sch, home, tile)
    threads.place(sch, stages, home, stored)
    for loop, instruction in tiled:  # last: what reads the sums of a tile is found by the loops that store them
        sch.tensorize(loop, instruction)
    return f"bconv2d-{target.isa}-{product.shape}-{tile.rows(product)}x{tile.columns(product)}"


def _multiply(
    sch: Schedule, name: str, tile: TensorTile, product: BitProduct, scope: str
) -> tuple[LoopRV, tuple[LoopRV, LoopRV, LoopRV]]:
    """Compute a stage of sums in tiles, and store it; returns the loop over blocks, of filters, and loops over tiles.

    scope : where to, "shared" for readers in the same block, else "global".
    """
    acc = sch.get_sblock(name)
    m, o, k = sch.get_loops(acc)
    words = product.depth // WORD
    chunk = max(divisors(extent(sch, k) // words, _CHUNK // words))
    mb, mw, mt, mi = sch.split(m, [None, tile.warps_of_pixels, tile.pixels, product.rows])
    ob, ow, ot, oi = sch.split(o, [None, tile.warps_of_filters, tile.filters, product.columns])
    ko, kt, ki = sch.split(k, [None, chunk, words])
    sch.reorder(mb, ob, mw, ow, ko, kt, mt, ot, mi, oi, ki)
    warps = sch.fuse(mw, ow)
    for loop, axis in ((mb, "blockIdx.x"), (ob, "blockIdx.y"), (warps, "threadIdx.y")):
        sch.bind(loop, axis)
    stored = sch.cache_write(acc, 0, "warp")
    sch.reverse_compute_at(stored, warps, preserve_unit_loops=True)
    sch.set_scope(stored, 0, scope)
    rows, columns = product.rows, product.columns
    sch.transform_layout(
        acc,
        ("write", 0),
        lambda i, j: (i // rows, j // columns, lane_of(i, j), register_of(i, j, rows)),
    )
    window = sch.get_sblock(name.replace("acc", "window"))
    sch.set_scope(window, 0, "shared")
    for operand in (window, sch.cache_read(acc, _operand(sch, acc, "weight"), "shared")):
        _copy(sch, operand, ko, tile.warps)
    begin = sch.get_loops(sch.decompose_reduction(acc, ko))[-2]
    *_, i, j = sch.get_loops(stored)
    io, ii = sch.split(i, [None, rows])
    jo, ji = sch.split(j, [None, columns])
    sch.reorder(io, jo, ii, ji)
    return ob, (begin, mi, ii)


def _stored(name: str) -> str:
    """What the block is called that stores sums."""
    return f"{name}_warp"


def _operand(sch: Schedule, acc: SBlockRV, prefix: str) -> int:
    """Which of what a stage reads has a name that begins so."""
    names = [read.source.name for read in sch.get(acc).reads]
    return next(i for i, name in enumerate(names) if name.startswith(prefix))


def _copy(sch: Schedule, operand: SBlockRV, at: LoopRV, warps: int) -> None:
    """Copy a chunk of an operand, neighbouring words by neighbouring threads."""
    sch.compute_at(operand, at, preserve_unit_loops=True)
    sch.storage_align(operand, 0, axis=-2, factor=8, offset=4)
    _, warp, lane = sch.split(sch.fuse(*sch.get_loops(operand)[-2:]), [None, warps, WARP])
    sch.bind(warp, "threadIdx.y")
    sch.bind(lane, "threadIdx.x")


def _begin_epilogue(sch: Schedule, home: dict[str, Nest], tile: TensorTile) -> None:
    """Let the first value that reads the sums do so in their block, a thread an element, for the others to join."""
    first = next(sch.get(block).name_hint for block in sch.get_consumers(sch.get_sblock(_stored("acc"))))
    block, at = sch.get_sblock(first), home["acc"].blocks
    sch.reverse_compute_at(block, at, preserve_unit_loops=True)
    pixels, filters = sch.get_loops(block)[-2:]
    some_pixels, warp = sch.split(pixels, [None, tile.warps])
    word, lane = sch.split(filters, [None, WARP])
    sch.reorder(some_pixels, word, warp, lane)
    sch.bind(warp, "threadIdx.y")
    sch.bind(lane, "threadIdx.x")
    home[first] = Nest(word, lane, threads.elements(sch, block))
    home[_stored("acc")] = home[first]


def _hide_ones(sch: Schedule, block: SBlockRV, stages: Stages) -> None:
    """Let a stage that reads the ones of windows be placed all the same: TVM wants all that it reads beside it.

    They are launched by themselves, and before.
    """
    for number, read in enumerate(sch.get(block).reads):
        if read.source.name == "ones":
            assert stages.names.index("ones") < stages.names.index("acc"), stages
            sch.unsafe_hide_buffer_access(block, "read", [number])


def _flatten(sch: Schedule, block: SBlockRV) -> None:
    """Number the pixels of a stage [N, H, W, ...] one after the other, as the sums have them."""
    _, height, width, *rest = (int(axis.dom.extent) for axis in sch.get(block).iter_vars)
    results, written = list(sch.mod["main"].params), sch.get(block).writes[0].source
    if not any(written.same_as(result) for result in results):
        sch.transform_layout(block, ("write", 0), _numbered(height, width, len(written.shape)))
    sch.transform_block_layout(block, _numbered(height, width, 3 + len(rest)))


def _numbered(height: int, width: int, rank: int) -> tirx.IndexMap:
    """(n, y, x, ...) -> (number of the pixel, ...)."""
    return tirx.IndexMap.from_func(
        lambda n, y, x, *rest: ((n * height + y) * width + x, *rest), rank, index_dtype="int32"
    )
