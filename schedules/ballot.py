"""Ballots: the predicates of a warp become a word in one instruction.

A stage of masks adds up ``predicate[lane] << lane`` over the 32 threads of a warp, which TVM would do by shuffles, five
steps and one that spreads the sum. No two lanes set the same bit, so the sum is what ``vote.sync.ballot`` makes: bit i
of the result, which all threads have, is the predicate of lane i.

It asks for all threads of the warp: the loop over lanes is that over 32 threads, and where the stage is left out,
behind the last pixel say, it is by whole warps. Threads behind the last channel have a predicate as well, False. The
words are stored by the first thread of each warp.
"""

from collections.abc import Mapping

from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize

from tvm_bnn.gpus import WARP
from tvm_bnn.lower.statements import Part, rebuilt

_LANES = "threadIdx.x"
_ALL_LANES = (1 << WARP) - 1

#: Loops over threads that a statement is in -> the axis of each.
_Threads = Mapping[tirx.Var, str]


def gather_by_ballots(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Let the stages of masks of a scheduled kernel be ballots; one that is not as said above stays a reduction."""
    return func.with_body(_within({})(func.body))


def _within(threads: _Threads) -> Part:
    def part(stmt: tirx.Stmt) -> tirx.Stmt:
        if isinstance(stmt, tirx.For) and stmt.thread_binding is not None:
            return rebuilt(stmt, _within({**threads, stmt.loop_var: str(stmt.thread_binding.thread_tag)}))
        if isinstance(stmt, SBlockRealize) and stmt.block.name_hint.startswith("mask_"):
            return _ballot(stmt) if _takes_whole_warps(stmt, threads) else stmt
        if isinstance(stmt, SBlockRealize) and stmt.block.name_hint.startswith("bits_"):
            return stmt if not threads or _LANES in threads.values() else _by_first_lane(stmt)
        return rebuilt(stmt, part)

    return part


def _takes_whole_warps(realized: SBlockRealize, threads: _Threads) -> bool:
    """Whether a stage of masks sums over the threads of warps, and each thread keeps the result."""
    *_, place = realized.iter_values
    *_, lane = realized.block.iter_vars
    sums = int(lane.iter_type) == tirx.IterVar.CommReduce and int(lane.dom.extent) == WARP
    all_lanes = isinstance(place, tirx.Var) and threads.get(place) == _LANES
    if not (sums and all_lanes):
        return False
    apart = any(place.same_as(var) for var in tirx.analysis.undefined_vars(realized.predicate))
    return not apart and realized.block.writes[0].source.scope() == "local"


def _ballot(realized: SBlockRealize) -> SBlockRealize:
    """The stage with a ballot for its sum: no axis is summed over any more, and nothing is to begin."""
    block = realized.block
    *places, lane = block.iter_vars
    store, bit = block.body, block.body.value.b.a.value  # of word + (cast(bit) << lane)
    word = tirx.call_intrin(
        "uint32", "tirx.cuda.ballot_sync", tirx.const(_ALL_LANES, "uint32"), tirx.Cast("int32", bit)
    )
    made = SBlock(
        [*places, tirx.IterVar(lane.dom, lane.var, tirx.IterVar.DataPar)],
        block.reads, block.writes, block.name_hint, tirx.BufferStore(store.buffer, word, store.indices), None,
        block.alloc_buffers, block.match_buffers, block.annotations,
    )  # fmt: skip
    return SBlockRealize(realized.iter_values, realized.predicate, made)


def _by_first_lane(realized: SBlockRealize) -> tirx.For:
    """A stage that all threads of a warp would store alike."""
    lane = tirx.Var("lane", "int32")
    thread = tirx.IterVar(None, tirx.Var("thread", "int32"), tirx.IterVar.ThreadIndex, _LANES)
    first = tirx.And(realized.predicate, tirx.EQ(lane, tirx.const(0, "int32")))
    stored = SBlockRealize(realized.iter_values, first, realized.block)
    return tirx.For(lane, 0, WARP, tirx.ForKind.THREAD_BINDING, stored, thread)
