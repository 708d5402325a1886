"""Bilinear resize: a row is interpolated vertically once, then every output pixel of it horizontally."""

import tvm
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ScheduleError

from tvm_bnn.schedules.elementwise import parallel_rows, place_readers
from tvm_bnn.schedules.stages import Stages, inner_loops, pack_tail, vectorize_channels


def apply(sch: Schedule, target) -> str:
    """Schedule a kernel of the "resize" family in place; returns the name of the rule."""
    stages = Stages.of(sch)
    first, *others = stages.values
    value = sch.get_sblock(first)
    n, y, x, c = sch.get_loops(value)
    vectorize_channels(sch, c, target.lanes32)
    at = parallel_rows(sch, [n, y, x])
    vertical = sch.get_sblock("vertical")
    rows = sch.get_loops(value)[0]
    try:
        sch.compute_at(vertical, rows, preserve_unit_loops=True)
    except (tvm.error.InternalError, ScheduleError):  # columns from a table hide the rows; or several values read them
        *outer, channels = sch.get_loops(vertical)
        vectorize_channels(sch, channels, target.lanes32)
        parallel_rows(sch, outer)
    else:
        vectorize_channels(sch, inner_loops(sch, vertical, rows)[-1], target.lanes32)
    if first.startswith("cond_"):
        pack_tail(sch, {first: at})
    place_readers(sch, others, at, target)
    return f"resize-{target.isa}"
