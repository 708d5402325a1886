"""Pooling, reductions over axes and small products: vectors over channels, every reduction in its defined order."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from tvm_bnn.schedules.elementwise import parallel_rows, place_readers
from tvm_bnn.schedules.stages import Stages, vectorize_channels

_REDUCTION = 2  # tvm.tirx.IterVar.CommReduce


def apply(sch: Schedule, target) -> str:
    """Schedule a kernel of the "reduce" or "plane_sum" family in place; returns the name of the rule."""
    stages = Stages.of(sch)
    inner = [name for name in stages.names if name.startswith(("rows", "peak", "powers"))]
    for name in inner:
        _accumulate(sch, sch.get_sblock(name), target)
    at = _accumulate(sch, sch.get_sblock("acc"), target)
    place_readers(sch, stages.values, at, target)
    for name in [*inner, "acc"]:  # last: placing needs whole reductions
        _decompose(sch, sch.get_sblock(name))
    return f"reduce-{target.isa}"


def _accumulate(sch: Schedule, block: SBlockRV, target) -> LoopRV | None:
    """Loops of one stage; returns the loop under which its readers fit, None if it has a single axis."""
    over = sum(int(v.iter_type) == _REDUCTION for v in sch.get(block).iter_vars)
    loops = sch.get_loops(block)
    *outer, channels = loops[: len(loops) - over]
    vectors = vectorize_channels(sch, channels, target.lanes32)
    sch.reorder(vectors[0], *loops[len(loops) - over :], *vectors[1:])
    return parallel_rows(sch, outer)


def _decompose(sch: Schedule, block: SBlockRV) -> None:
    """Separate the initial value from the sum, at the outermost reduction loop."""
    over = sum(int(v.iter_type) == _REDUCTION for v in sch.get(block).iter_vars)
    if over:
        loops = sch.get_loops(block)
        vectors = 1 if int(sch.get(loops[-1]).kind) == 2 else 0
        sch.decompose_reduction(block, loops[len(loops) - vectors - over])
