"""Kernels without an anchor: chains of elementwise operators, layout copies and packing."""

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV

from tvm_bnn.schedules.stages import Stages, _inner_loops, extent, pack_tail, vectorize_channels


def apply(sch: Schedule, target) -> str:
    """Rows in parallel, channels in vectors, bits packed where they are made; returns the name of the rule."""
    stages = Stages.of(sch)
    first, *others = stages.values
    root = sch.get_sblock(first)
    *outer, channels = sch.get_loops(root)
    if first.startswith("cond_"):
        sch.set_scope(root, 0, "local")
    _vectors(sch, channels, target)
    at = parallel_rows(sch, outer)
    place_readers(sch, stages, others, at, target)
    return f"elementwise-{target.isa}"


def parallel_rows(sch: Schedule, loops: list[LoopRV]) -> LoopRV | None:
    """Share rows among the threads: all but the last loop, fused. Returns the last loop, None if there is none."""
    if not loops:
        return None
    if len(loops) == 1:
        if extent(sch, loops[0]) > 1:
            sch.parallel(loops[0])
        return loops[0]
    rows = sch.fuse(*loops[:-1]) if len(loops) > 2 else loops[0]
    if extent(sch, rows) > 1:
        sch.parallel(rows)
    return loops[-1]


def place_readers(sch: Schedule, stages: Stages, names: list[str], at: LoopRV | None, target) -> None:
    """Put values that read what is already scheduled under its loop, and pack bits there."""
    for name in names:
        value = sch.get_sblock(name)
        if at is None or not sch.get_producers(value):
            *outer, channels = sch.get_loops(value)
            _vectors(sch, channels, target)
            parallel_rows(sch, outer)
            continue
        sch.reverse_compute_at(value, at, preserve_unit_loops=True)
        if name.startswith("cond_"):
            sch.set_scope(value, 0, "local")
        _vectors(sch, _inner_loops(sch, value, at)[-1], target)
    if at is not None:
        pack_tail(sch, stages, at)


def _vectors(sch: Schedule, channels: LoopRV, target) -> None:
    loops = vectorize_channels(sch, channels, target.lanes32)
    if len(loops) == 2 and extent(sch, loops[0]) <= 16:
        sch.unroll(loops[0])
