"""Any kernel on a GPU: a thread an element, whatever follows element by element in the same thread.

    blocks x 8 warps x 32 threads, neighbouring channels (and bits of a word) in neighbouring threads:
        sums of the element, in a register, in their defined order
        values that read the element
    threads of a warp put their predicates together to a word

A stage that is read otherwise (a padded input, rows that are added up later, what channels of another layout read) is
stored, and its readers are launched after it. So every kernel has a schedule of this kind, and each stage has its
elements in memory order, which neighbouring threads then read and write together.
"""

from collections.abc import Collection
from math import prod
from typing import NamedTuple

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV, ScheduleError

from tvm_bnn.gpus import WARP
from tvm_bnn.schedules.conv import kind_of
from tvm_bnn.schedules.decide import divisors
from tvm_bnn.schedules.stages import Stages, extent, inner_loops

#: Warps of a block.
WARPS = 8
_REDUCTION = 2  # tvm.tirx.IterVar.CommReduce


class Nest(NamedTuple):
    """Loops that are launched together: over blocks, and over the threads of one; how many elements they have, 0 where
    nothing else may be put there.
    """

    blocks: LoopRV
    threads: LoopRV
    elements: int


def apply(sch: Schedule, target) -> str:
    """Schedule any kernel in place; returns the name of the rule."""
    place(sch, Stages.of(sch), {})
    return f"{target.isa}-threads"


def apply_conv(sch: Schedule, target) -> str:
    """The same of a convolution."""
    kind = kind_of(sch, sch.get_sblock("acc"))
    return f"{kind}-{apply(sch, target)}"


def place(sch: Schedule, stages: Stages, done: dict[str, Nest], stored: Collection[str] = ()) -> None:
    """Schedule all stages but those that have their loops already; done : these, and where they are.

    stored : those whose memory is chosen, and whose sums are begun.
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
            home[name] = _joined(sch, name, home) or own_nest(sch, sch.get_sblock(name))
    left = [name for name in stages.names if name not in stored]
    for name in left:
        _keep_in_registers(sch, name, home)
    for name in left:
        _begin_sum(sch, name, home)


def own_nest(sch: Schedule, block: SBlockRV) -> Nest:
    """Launch a stage by itself, a thread an element; sums stay loops of the thread."""
    loops = sch.get_loops(block)
    spatial = len(loops) - _sums_over(sch, block)
    outer = loops[:spatial] or [sch.add_unit_loop(loops[0] if loops else block)]
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
    sch.bind(sch.fuse(*words), "threadIdx.y")
    sch.bind(lane, "threadIdx.x")
    return nest


def _by_warp(sch: Schedule, bits: SBlockRV, nest: Nest) -> Nest:
    """Store what each warp has once."""
    sch.reverse_compute_at(bits, nest.blocks, preserve_unit_loops=True)
    sch.bind(sch.fuse(*inner_loops(sch, bits, nest.blocks)), "threadIdx.y")
    return nest


def _begin_sum(sch: Schedule, name: str, home: dict[str, Nest]) -> None:
    """Separate the initial value of a sum that a thread takes from its terms; one that others read is stored once."""
    block, nest = sch.get_sblock(name), home[name]
    over, writes = _sums_over(sch, block), sch.get(block).writes
    if not over or name.startswith("mask_"):
        return
    here = [reader for reader in sch.get_consumers(block) if home.get(sch.get(reader).name_hint) is nest]
    if len(writes) == 1 and writes[0].source.scope() == "global" and nest.elements and not here:
        sch.reverse_compute_at(sch.cache_write(block, 0, "local"), nest.threads, preserve_unit_loops=True)
    sch.decompose_reduction(block, sch.get_loops(block)[-over])


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
