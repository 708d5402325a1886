"""Any kernel on a GPU: a thread an element, whatever follows element by element in the same thread.

    blocks x 8 warps x 32 threads, neighbouring channels (and bits of a word) in neighbouring threads:
        sums of the element, in a register, in their defined order
        values that read the element
    threads of a warp put their predicates together to a word

A thread of a large convolution has up to eight neighbouring pixels of a channel, for which it loads each weight once;
it reads a padded input where that lies, and tests for the border.

A stage that is read otherwise (an input that is computed, rows that are added up later, what channels of another layout
read) is stored, and its readers are launched after it. So every kernel has a schedule of this kind, and each stage has
its elements in memory order, which neighbouring threads then read and write together.
"""

from collections.abc import Collection
from math import prod
from typing import NamedTuple

from tvm import ir
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV, ScheduleError

from tvm_bnn.gpus import WARP
from tvm_bnn.schedules.conv import kind_of
from tvm_bnn.schedules.decide import divisors
from tvm_bnn.schedules.stages import Stages, extent, inner_loops

#: Warps of a block.
WARPS = 8
_REDUCTION = 2  # tvm.tirx.IterVar.CommReduce


#: Neighbouring pixels of a convolution that a thread computes, at most, and threads that there should be all the same.
PIXELS, LEAST_THREADS = 8, 1 << 16


class Nest(NamedTuple):
    """Loops that are launched together: over blocks, and over the threads of one; how many elements they have, 0 where
    nothing else may be put there; how many of them, neighbouring pixels of a channel, a thread has.
    """

    blocks: LoopRV
    threads: LoopRV
    elements: int
    pixels: int = 1


def apply(sch: Schedule, target) -> str:
    """Schedule any kernel in place; returns the name of the rule."""
    place(sch, Stages.of(sch), {})
    return f"{target.isa}-threads"


def apply_conv(sch: Schedule, target) -> str:
    """The same of a convolution."""
    kind, stages = kind_of(sch, sch.get_sblock("acc")), Stages.of(sch)
    for name in stages.starting("pad"):
        _read_in_place(sch, sch.get_sblock(name))
    alone = stages.starting("acc", "joint") == ["acc"]
    place(sch, Stages.of(sch), {}, several=("acc",) if alone else ())
    return f"{kind}-{target.isa}-threads"


def place(
    sch: Schedule,
    stages: Stages,
    done: dict[str, Nest],
    stored: Collection[str] = (),
    several: Collection[str] = (),
) -> None:
    """Schedule all stages but those that have their loops already; done : these, and where they are.

    stored : those whose memory is chosen, and whose sums are begun. several : those of which a thread computes several
    pixels.
    """
    home, joint = dict(done), stages.starting("joint")
    if joint and joint[0] not in home:
        nest = own_nest(sch, sch.get_sblock(joint[0]))
        home.update(dict.fromkeys(joint, nest))
        for name in stages.starting("acc"):
            if name not in home:
                sch.compute_at(sch.get_sblock(name), nest.threads, preserve_unit_loops=True)
                home[name] = nest
    for name in stages.names:
        if name not in home:
            launch = _nest_of_pixels if name in several else own_nest
            home[name] = _joined(sch, name, home) or launch(sch, sch.get_sblock(name))
    left = [name for name in stages.names if name not in stored]
    for name in left:
        _keep_in_registers(sch, name, home)
        _unroll_pixels(sch, sch.get_sblock(name), home[name])
    for name in left:
        _begin_sum(sch, name, home)


def own_nest(sch: Schedule, block: SBlockRV) -> Nest:
    """Launch a stage by itself, a thread an element; sums stay loops of the thread."""
    loops = sch.get_loops(block)
    spatial = len(loops) - _sums_over(sch, block)
    return _launched(sch, loops[:spatial] or [sch.add_unit_loop(loops[0] if loops else block)])


def _nest_of_pixels(sch: Schedule, block: SBlockRV) -> Nest:
    """The same of a convolution [N, H, W, O]: a thread has several neighbouring pixels of a channel, for which it loads
    a weight once, where there are threads enough.
    """
    n, y, x, o, *sums = sch.get_loops(block)
    count = prod(extent(sch, loop) for loop in (n, y, x, o))
    pixels = max(divisors(extent(sch, x), max(1, min(PIXELS, count // LEAST_THREADS))))
    if pixels == 1:
        return own_nest(sch, block)
    some, neighbours = sch.split(x, [None, pixels])
    sch.reorder(some, o, *sums, neighbours)
    sch.unroll(neighbours)
    nest = _launched(sch, [n, y, some, o])
    return nest._replace(elements=nest.elements * pixels, pixels=pixels)


def _launched(sch: Schedule, outer: list[LoopRV]) -> Nest:
    """Bind loops to blocks and threads."""
    count = prod(extent(sch, loop) for loop in outer)
    rest, inner = _box(sch, outer)
    threads = extent(sch, inner)
    if threads < min(WARP, count):  # rows of a prime number, say: blocks of any neighbours, where nothing else fits
        whole, count = sch.fuse(*rest, inner), 0
        block, lanes = sch.split(whole, [None, WARPS * WARP])
        rest = [block]
    elif threads % WARP == 0:
        warps, lanes = sch.split(inner, [None, WARP])
        sch.bind(warps, "threadIdx.y")
    else:
        lanes = inner
    sch.bind(lanes, "threadIdx.x")
    *_, last = blocks = [sch.fuse(*rest[:-2]), *rest[-2:]] if len(rest) > 3 else rest
    for loop, axis in zip(reversed(blocks), "xyz", strict=False):
        sch.bind(loop, f"blockIdx.{axis}")
    return Nest(last, lanes, count)


def _box(sch: Schedule, loops: list[LoopRV]) -> tuple[list[LoopRV], LoopRV]:
    """Cut loops in those over blocks, at least one, and one over the threads of a block.

    A block has neighbours in memory that are a box in the last two indices, so that TVM can tell what it reads.
    """
    *rest, last = loops
    unit = WARP if extent(sch, last) % WARP == 0 else 1
    part = unit * max(divisors(extent(sch, last) // unit, WARPS * WARP // unit))
    first, inner = sch.split(last, [None, part])
    if extent(sch, first) > 1 or not rest:
        return [*rest, first], inner
    *rest, before = rest
    first_before, part_before = sch.split(before, [None, max(divisors(extent(sch, before), WARPS * WARP // part))])
    return [*rest, first_before], sch.fuse(part_before, first, inner)


def _joined(sch: Schedule, name: str, home: dict[str, Nest]) -> Nest | None:
    """Put a stage where what it reads is made, if that is one nest and each thread has what it reads."""
    block = sch.get_sblock(name)
    nests = [home[sch.get(producer).name_hint] for producer in sch.get_producers(block)]
    if not nests:
        return None
    nest = max(nests, key=list(home.values()).index)  # what else it reads is made before
    if name.startswith("mask_"):
        return _gathered(sch, block, nest)
    if name.startswith("bits_") and nest.elements == WARP * elements(sch, block):
        return _by_warp(sch, block, nest)
    if elements(sch, block) != nest.elements or _sums_over(sch, block):
        return None
    try:
        sch.reverse_compute_at(block, nest.threads, preserve_unit_loops=True)
    except (ScheduleError, ValueError):  # clamped or permuted reads
        return None
    return nest


def elements(sch: Schedule, block: SBlockRV) -> int:
    """How many elements a stage has."""
    return prod(int(axis.dom.extent) for axis in sch.get(block).iter_vars if int(axis.iter_type) != _REDUCTION)


def _gathered(sch: Schedule, mask: SBlockRV, nest: Nest) -> Nest:
    """The predicates of a warp as a word, which all its threads then have."""
    sch.reverse_compute_at(mask, nest.blocks, preserve_unit_loops=True)
    *words, lane = inner_loops(sch, mask, nest.blocks)
    _bind_words(sch, words, nest)
    sch.bind(lane, "threadIdx.x")
    return nest


def _by_warp(sch: Schedule, bits: SBlockRV, nest: Nest) -> Nest:
    """Store what each warp has once."""
    sch.reverse_compute_at(bits, nest.blocks, preserve_unit_loops=True)
    _bind_words(sch, inner_loops(sch, bits, nest.blocks), nest)
    return nest


def _bind_words(sch: Schedule, loops: list[LoopRV], nest: Nest) -> None:
    """Give each warp the words of its pixels; loops : over pixels and words of a block."""
    if nest.pixels > 1:
        *rest, x, word = loops
        some, neighbours = sch.split(x, [None, nest.pixels])
        sch.reorder(some, word, neighbours)
        sch.unroll(neighbours)
        loops = [*rest, some, word]
    sch.bind(sch.fuse(*loops), "threadIdx.y")


def _read_in_place(sch: Schedule, pad: SBlockRV) -> None:
    """Leave out a copy of what lies in memory with a border around it: who reads it tests for the border."""
    if lies_in_memory(sch.get(pad).body.value):
        sch.compute_inline(pad)


def lies_in_memory(value: ir.Expr) -> bool:
    """Whether an element, or the bits of one, lies in memory as it is; or is a border's, where that is tested for."""
    while isinstance(value, ir.Call) and value.op.name in ("prim.if_then_else", "prim.reinterpret"):
        value = value.args[1 if value.op.name == "prim.if_then_else" else 0]
    return isinstance(value, ir.TensorLoad)


def _unroll_pixels(sch: Schedule, block: SBlockRV, nest: Nest) -> None:
    """Unroll the loop over a thread's pixels, which then are registers, of what reads sums of several."""
    loops = sch.get_loops(block)
    if nest.pixels == 1 or _sums_over(sch, block):
        return
    if not any(sch.get(loop).same_as(sch.get(nest.threads)) for loop in loops):  # words, say
        return
    for loop in inner_loops(sch, block, nest.threads):
        if extent(sch, loop) == nest.pixels:
            sch.unroll(loop)


def _begin_sum(sch: Schedule, name: str, home: dict[str, Nest]) -> None:
    """Separate the initial value of a sum that a thread takes from its terms; one that others read is stored once."""
    block, nest = sch.get_sblock(name), home[name]
    over, writes = _sums_over(sch, block), sch.get(block).writes
    if not over or name.startswith("mask_"):
        return
    here = [reader for reader in sch.get_consumers(block) if home.get(sch.get(reader).name_hint) is nest]
    if len(writes) == 1 and writes[0].source.scope() == "global" and nest.elements and not here:
        copy = sch.cache_write(block, 0, "local")
        sch.reverse_compute_at(copy, nest.threads, preserve_unit_loops=True)
        _unroll_pixels(sch, copy, nest)
    first = -over if nest.pixels == 1 else -over - 1
    _unroll_pixels(sch, sch.decompose_reduction(block, sch.get_loops(block)[first]), nest)


def _sums_over(sch: Schedule, block: SBlockRV) -> int:
    """How many axes a stage sums over; their loops are its last."""
    return sum(int(axis.iter_type) == _REDUCTION for axis in sch.get(block).iter_vars)


def _keep_in_registers(sch: Schedule, name: str, home: dict[str, Nest]) -> None:
    """Keep what only its own nest reads in registers."""
    block, results = sch.get_sblock(name), list(sch.mod["main"].params)
    readers = [home.get(sch.get(reader).name_hint) for reader in sch.get_consumers(block)]
    if readers and all(reader is home[name] for reader in readers):
        for number, write in enumerate(sch.get(block).writes):
            if not any(write.source.same_as(result) for result in results):
                sch.set_scope(block, number, "local")
