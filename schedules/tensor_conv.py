"""Products on tensor cores: a block has a tile of pixels x filters, and each of its warps a part of that.

    blocks of filters, blocks of pixels:
        for each convolution that the epilogue joins:
            count the ones of the block's windows, where a tensor core has no xor        a thread a pixel
            (and of the other operand's rows, where that is no constant)
            for each chunk of the window's words:
                copy the next chunk of all pixels, and of all filters    shared memory, all threads
                for each tile of words, of the warp's pixels, of its filters:
                    sums += pixels (*) filters                           registers of a warp
            store the sums                                               shared memory
        values that read them, a thread an element                       as any kernel's (``threads``)

The loops are those of the stage that reads the sums: of ``joint`` where several convolutions are joined, else of
``count``. Where the sums of all of them do not fit the shared memory of a block, each convolution is launched apart.

Rows of the copies are stored an odd number of four words apart, so that the threads of a warp, which read eight rows at
once, find each word in another bank.
"""

import math
from typing import NamedTuple

from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_bnn.gpus import WARP, Gpu, Product
from tvm_bnn.lower.layout import WORD
from tvm_bnn.lower.tensor_core import MOST_PIXELS, OPERANDS, RUN, step
from tvm_bnn.schedules import threads
from tvm_bnn.schedules.decide import Decide, by_default, divisors
from tvm_bnn.schedules.stages import Stages, extent, inner_loops
from tvm_bnn.schedules.threads import Nest
from tvm_bnn.schedules.tile_products import instructions, lane_of, register_of, registers


class Sums(NamedTuple):
    """What a kernel multiplies, and how: pixels and filters, padded to tiles, and words of each convolution's window.

    products : how many such matrices.
    """

    product: Product
    pixels: int
    filters: int
    words: tuple[int, ...]
    products: int = 1


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

    def rows(self, product: Product) -> int:
        """Pixels of a block."""
        return self.warps_of_pixels * self.pixels * product.rows

    def columns(self, product: Product) -> int:
        """Filters of a block."""
        return self.warps_of_filters * self.filters * product.columns


#: Registers of a thread for sums, warps of a block, words of a row that is copied at once: at most.
_SUMS, _WARPS, _CHUNK = 64, 8, 24


def sums_of(sch: Schedule, stages: Stages, gpu: Gpu) -> Sums:
    """What the convolutions of a kernel multiply: bits of all that one epilogue joins, or numbers of a single one."""
    blocks = [sch.get_sblock(name) for name in _sums(stages)]
    shapes = [[extent(sch, loop) for loop in sch.get_loops(block)] for block in blocks]
    *several, pixels, filters, _ = shapes[0]
    operands = sch.get(blocks[0]).annotations.get(OPERANDS)
    product = gpu.product if operands is None else gpu.product_of(str(operands))
    assert product is not None, operands
    return Sums(product, pixels, filters, tuple(shape[-1] for shape in shapes), math.prod(several))


def tiles(sums: Sums, gpu: Gpu) -> list[TensorTile]:
    """What may be decided: whole tiles of pixels and filters, whose sums fit the registers of a thread.

    Those whose sums fit the shared memory of a block as well, if there are any.
    """
    product, found = sums.product, []
    for pixels in divisors(math.gcd(sums.pixels, MOST_PIXELS) // product.rows):
        for columns in divisors(sums.filters // product.columns):
            if columns * product.columns % WORD:
                continue
            for down in divisors(pixels):
                for across in divisors(columns, _WARPS // down if down <= _WARPS else 0):
                    tile = TensorTile(down, across, pixels // down, columns // across)
                    fit = tile.pixels * tile.filters * registers(product) <= _SUMS
                    if fit and tile.rows(product) % tile.warps == 0:  # so that epilogues have whole rows of warps
                        found.append(tile)
    return [tile for tile in found if fits(tile, sums, gpu)] or found


def shared_bytes(tile: TensorTile, sums: Sums, gpu: Gpu) -> int:
    """Shared memory of a block: chunks of both operands, sums of every convolution, and ones of windows.

    As TVM allocates it: sums take the place of the larger operand, which was read by then and of which the next
    convolution has another; of a single one nothing else is stored. Integers make a place larger, floats do not.
    """
    product = sums.product
    rows, columns = tile.rows(product), tile.columns(product)
    pitch = max(_pitch(words, product, gpu) for words in sums.words)
    count, larger = len(sums.words), max(rows, columns) * pitch
    if count > 1:
        stored = max(count * rows * columns, (count - 1) * larger)
    elif product.sums == "float32":
        stored = rows * columns if rows * columns > larger else 0
    else:
        stored = max(rows * columns - larger, 0)
    ones = count * rows if product.operation == "and" else 0
    return 4 * ((rows + columns) * pitch + stored + ones)


def fits(tile: TensorTile, sums: Sums, gpu: Gpu) -> bool:
    """Whether all convolutions of a kernel can be made in one block."""
    return shared_bytes(tile, sums, gpu) <= gpu.shared_memory


def choose_tile(sums: Sums, gpu: Gpu) -> TensorTile:
    """The default: the fewest clocks of the busiest multiprocessor, as instructions are counted. Not measured on a GPU.

    Of each block: products, for which a multiprocessor has four units; their loads; copies with their indices, of which
    those of a window are dearer; and the epilogue.
    """
    product = sums.product
    left, right = product.rows // 8, 1  # registers of a tile for each four words

    def clocks(tile: TensorTile) -> float:
        rows, columns = tile.rows(product), tile.columns(product)
        blocks = sums.products * -(-sums.pixels // rows) * -(-sums.filters // columns)
        parts, steps = product.words // 4, sum(sums.words) // product.words
        products = tile.pixels * tile.filters * product.instructions
        of_warp = steps * (products * 8 + parts * (left * tile.pixels + right * tile.filters) * 4)
        copied = sum(sums.words) * (rows * 24 + columns * 8) / WARP / min(tile.warps, 4)
        written = len(sums.words) * rows * columns * 16 / WARP / min(tile.warps, 4)
        return -(-blocks // gpu.multiprocessors) * (of_warp * max(tile.warps / 4, 1) + copied + written)

    return min(tiles(sums, gpu), key=clocks)


def apply(sch: Schedule, target, decide: Decide = by_default) -> str:
    """Schedule a kernel of the "tensor_conv" family in place; returns the name of the rule."""
    gpu, stages = target.gpu, Stages.of(sch)
    sums = sums_of(sch, stages, gpu)
    product = sums.product
    tile = decide("tile", tiles(sums, gpu), choose_tile(sums, gpu))
    if stages.starting("joint"):
        for name in stages.starting("count"):
            sch.compute_inline(sch.get_sblock(name))
    block = _Block(sch, tile, product, gpu)
    if fits(tile, sums, gpu):
        block.together()
    else:
        block.apart()
    kind = "bmatmul" if stages.has("other") else "bconv2d" if product.of_bits else f"conv2d-{product.operands}"
    return f"{kind}-{target.isa}-{product.shape}-{tile.rows(product)}x{tile.columns(product)}"


def _sums(stages: Stages) -> list[str]:
    """The stages of sums that tensor cores make."""
    return [name for name in stages.starting("acc") if stages.has(_of(name, "window"))]


def _of(name: str, stage: str) -> str:
    """Another stage of the same convolution as a stage of sums."""
    return name.replace("acc", stage)


def _chunk(words: int, product: Product) -> int:
    """Words of a window that are copied at once."""
    least = step(product)
    return least * max(divisors(words // least, _CHUNK // least))


def _copies_ahead(words: int, product: Product, gpu: Gpu) -> bool:
    """Whether chunks of a window are copied while those before are multiplied."""
    return gpu.copies_ahead and _chunk(words, product) < words


def _pitch(words: int, product: Product, gpu: Gpu) -> int:
    """Words of shared memory for a row of an operand: of one chunk or two, each an odd number of four words."""
    chunk = _chunk(words, product)
    return (2 if _copies_ahead(words, product, gpu) else 1) * (chunk + (4 - chunk) % 8)


class _Block:
    """The schedule of a kernel, while it is made."""

    def __init__(self, sch: Schedule, tile: TensorTile, product: Product, gpu: Gpu) -> None:
        self.sch, self.tile, self.product, self.gpu = sch, tile, product, gpu
        self.stages = Stages.of(sch)
        self.home: dict[str, Nest] = {}
        self.tiled: list[tuple[LoopRV, str]] = []  # loops of tiles, and what each becomes

    def together(self) -> None:
        """Make all that the epilogue reads in the block that computes it."""
        sch, joints = self.sch, self.stages.starting("joint")
        several = len(sch.get_loops(sch.get_sblock(_sums(self.stages)[0]))) - 3
        for name in self.stages.names:
            of_product = name.startswith(("window", "other", "acc", "ones", "count"))
            if not of_product and not (name in joints and len(joints) > 1):
                _flatten(sch, sch.get_sblock(name), several)
        roots = joints or self.stages.starting("count")
        root = sch.get_sblock(roots[0])
        *pixels, filters = sch.get_loops(root)
        at, *inner = self._blocks(*pixels[:several], sch.fuse(*pixels[several:]), filters)
        for name in _sums(self.stages):
            self._make(name, "shared", at)
            for ones in ("ones", "ones_of_other"):
                if self.stages.has(_of(name, ones)):
                    self._count_ones(_of(name, ones), at)
        self._finish(dict.fromkeys(roots, self._elements(root, *inner)))

    def apart(self) -> None:
        """Launch each convolution by itself, and what reads the sums of all of them."""
        for name in _sums(self.stages):
            self._make(name, "global")
        self._finish({})

    def _finish(self, home: dict[str, Nest]) -> None:
        """Place what follows, element by element."""
        stored = tuple(self.home)
        threads.place(self.sch, self.stages, {**self.home, **home}, stored)
        for loop, instruction in self.tiled:  # last: what reads a tile's sums is found by the loops that store them
            self.sch.tensorize(loop, instruction)

    def _blocks(self, *loops: LoopRV) -> tuple[LoopRV, LoopRV, LoopRV]:
        """Cut the last loops, over pixels and filters, in blocks; returns the innermost loop over blocks, and those
        inside.
        """
        *several, m, o = loops
        mb, mi = self.sch.split(m, [None, self.tile.rows(self.product)])
        ob, oi = self.sch.split(o, [None, self.tile.columns(self.product)])
        self.sch.reorder(mb, ob, mi, oi)
        self.sch.bind(mb, "blockIdx.x")
        self.sch.bind(ob, "blockIdx.y")
        for loop in several:
            self.sch.bind(loop, "blockIdx.z")
        return ob, mi, oi

    def _elements(self, root: SBlockRV, pixels: LoopRV, filters: LoopRV) -> Nest:
        """Give each element of the stage that reads the sums a thread, for others to join."""
        sch = self.sch
        first = next(iter(sch.get_consumers(root)), root)
        some_pixels, warp = sch.split(pixels, [None, self.tile.warps])
        word, lane = sch.split(filters, [None, WARP])
        sch.reorder(some_pixels, word, warp, lane)
        sch.bind(warp, "threadIdx.y")
        sch.bind(lane, "threadIdx.x")
        return Nest(word, lane, threads.elements(sch, first))

    def _make(self, name: str, scope: str, at: LoopRV | None = None) -> None:
        """Compute a stage of sums in tiles, and store it.

        scope : where to. at : the loop over blocks whose body reads it; None for blocks of its own.
        """
        sch, product, tile = self.sch, self.product, self.tile
        rows, columns, words = product.rows, product.columns, product.words
        acc = sch.get_sblock(name)
        stored = sch.cache_write(acc, 0, "warp")
        sch.set_scope(stored, 0, scope)
        if at is None:
            at, i, j = self._blocks(*sch.get_loops(stored))
        else:
            sch.compute_at(stored, at, preserve_unit_loops=True)
            *_, i, j = inner_loops(sch, stored, at)
        iw, it, ii = sch.split(i, [tile.warps_of_pixels, tile.pixels, rows])
        jw, jt, ji = sch.split(j, [tile.warps_of_filters, tile.filters, columns])
        sch.reorder(iw, jw, it, jt, ii, ji)
        warps = sch.fuse(iw, jw)
        sch.bind(warps, "threadIdx.y")
        sch.compute_at(acc, warps, preserve_unit_loops=True)
        *several, m, o, k = inner_loops(sch, acc, warps)
        (mt, mi), (ot, oi) = sch.split(m, [None, rows]), sch.split(o, [None, columns])
        depth = extent(sch, k)
        ko, kt, ki = sch.split(k, [None, _chunk(depth, product) // words, words])
        sch.reorder(ko, kt, mt, ot, mi, oi, ki)

        def register(*index):
            *first, i, j = index
            return (*first, i // rows, j // columns, lane_of(i, j), register_of(i, j, rows))

        dealt = tirx.IndexMap.from_func(register, 2 + len(several), index_dtype="int32")
        sch.transform_layout(acc, ("write", 0), dealt)
        here = [_of(name, stage) for stage in ("window", "other") if self.stages.has(_of(name, stage))]
        for operand in map(sch.get_sblock, here):
            self._store_rows(operand)
            self._copy(operand, ko, len(several))
        if len(here) == 1:
            self._copy(sch.cache_read(acc, _operand(sch, acc, "weight"), "shared"), ko)
        begin = sch.get_loops(sch.decompose_reduction(acc, ko))[-2]
        if _copies_ahead(depth, product, self.gpu):
            sch.annotate(ko, "software_pipeline_stage", [0, 0, 1])  # both copies, products
            sch.annotate(ko, "software_pipeline_order", [0, 1, 2])
            sch.annotate(ko, "software_pipeline_async_stages", [0])
        self.tiled += zip((begin, mi, ii), instructions(product, scope), strict=True)
        self.home.update(dict.fromkeys((name, *here), Nest(at, at, 0)))

    def _store_rows(self, operand: SBlockRV) -> None:
        """Keep rows of words in shared memory, runs [..., rows, parts, places] one after the other."""
        sch = self.sch
        sch.set_scope(operand, 0, "shared")
        *rows, _, places = sch.get_loops(operand)
        run, rank = extent(sch, places), len(rows) + 2
        flat = tirx.IndexMap.from_func(lambda *i: (*i[:-2], i[-2] * run + i[-1]), rank, index_dtype="int32")
        sch.transform_layout(operand, ("write", 0), flat)

    def _copy(self, operand: SBlockRV, at: LoopRV, several: int = 0) -> None:
        """Copy a chunk of an operand, runs of words by one instruction, and neighbours by neighbouring threads.

        several : how many of its loops are not over rows and words.
        """
        sch = self.sch
        sch.compute_at(operand, at, preserve_unit_loops=True)
        sch.storage_align(operand, 0, axis=-2, factor=8, offset=4)
        row, *words = inner_loops(sch, operand, at)[several:]
        part, words = words if len(words) > 1 else sch.split(*words, [None, RUN])
        _, warp, lane = sch.split(sch.fuse(row, part), [None, self.tile.warps, WARP])
        sch.bind(warp, "threadIdx.y")
        sch.bind(lane, "threadIdx.x")
        if threads.lies_in_memory(sch.get(operand).body.value):
            sch.vectorize(words)
        else:  # words that are put together, of elements that are rounded here, say
            sch.unroll(words)

    def _count_ones(self, name: str, at: LoopRV) -> None:
        """Count the ones of the block's rows of an operand, a thread a row."""
        sch = self.sch
        ones = sch.get_sblock(name)
        stored = sch.cache_write(ones, 0, "local")
        sch.set_scope(stored, 0, "shared")
        sch.compute_at(stored, at, preserve_unit_loops=True)
        *_, pixels = inner_loops(sch, stored, at)
        _, warp, lane = sch.split(pixels, [None, self.tile.warps, WARP])
        sch.bind(warp, "threadIdx.y")
        sch.bind(lane, "threadIdx.x")
        sch.compute_at(ones, lane, preserve_unit_loops=True)
        *_, part, place = sch.get_loops(ones)
        sch.unroll(place)
        sch.decompose_reduction(ones, part)
        self.home[name] = Nest(at, at, 0)


def _operand(sch: Schedule, acc: SBlockRV, prefix: str) -> int:
    """Which of what a stage reads has a name that begins so."""
    names = [read.source.name for read in sch.get(acc).reads]
    return next(i for i, name in enumerate(names) if name.startswith(prefix))


def _flatten(sch: Schedule, block: SBlockRV, several: int) -> None:
    """Number the pixels of a stage [N, H, W, ...] one after the other, as the sums have them: with several products,
    those of an image.
    """
    _, height, width, *rest = (int(axis.dom.extent) for axis in sch.get(block).iter_vars)
    results, written = list(sch.mod["main"].params), sch.get(block).writes[0].source
    if not any(written.same_as(result) for result in results):
        sch.transform_layout(block, ("write", 0), _numbered(height, width, len(written.shape), several))
    sch.transform_block_layout(block, _numbered(height, width, 3 + len(rest), several))


def _numbered(height: int, width: int, rank: int, several: int) -> tirx.IndexMap:
    """(n, y, x, ...) -> (number of the pixel, ...), or (n, number in the image, ...)."""

    def number(n, y, x, *rest):
        return (n, y * width + x, *rest) if several else ((n * height + y) * width + x, *rest)

    return tirx.IndexMap.from_func(number, rank, index_dtype="int32")
