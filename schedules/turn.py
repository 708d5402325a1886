"""Turning: squares of a map, whose channels lie side by side, become squares whose pixels do, as a tensor intrinsic.

A square has as many pixels and channels as a vector has lanes L. Its L rows are loaded, and L * log2(L) shuffles of two
vectors make its columns: neighbouring elements, then pairs of them, change places inside lanes of four, and then these
lanes, which is what processors do in one instruction each. A column is written as the tree of shuffles that makes it;
what trees have in common LLVM finds.
"""

from collections.abc import Sequence

from tvm import tirx
from tvm.s_tir import Schedule, TensorIntrin
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.script import tirx as T

from tvm_bnn.lower.index import Scalar
from tvm_bnn.lower.statements import rebuilt
from tvm_bnn.schedules.stages import inner_loops

_LANE = 4  # elements inside of which any two vectors are mixed in one instruction


def turn(sch: Schedule, turned: SBlockRV, at: LoopRV, lanes: int) -> None:
    """Turn a copy [N, H, C, W] of a map [N, H, W, C], both in scope "local", in squares.

    at : the loop that both are computed in. C and W there have to be multiples of the lanes.
    """
    *_, c, x = inner_loops(sch, turned, at)
    co, ci = sch.split(c, [None, lanes])
    xo, xi = sch.split(x, [None, lanes])
    sch.reorder(xo, co, ci, xi)
    sch.tensorize(ci, _registered(lanes))


def _registered(lanes: int) -> str:
    name = f"bnn_turn_{lanes}"
    if TensorIntrin.get(name, allow_missing=True) is None:
        TensorIntrin.register(name, *_intrinsic(lanes))
    return name


def _intrinsic(lanes: int) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    @T.prim_func(s_tir=True)
    def description(rows: T.handle, columns: T.handle):
        A = T.match_buffer(rows, (lanes, lanes), "float32", offset_factor=1, strides=[T.int32(), 1], scope="local")
        B = T.match_buffer(columns, (lanes, lanes), "float32", offset_factor=1, strides=[T.int32(), 1], scope="local")
        with T.sblock("root"):
            T.reads(A[0:lanes, 0:lanes])
            T.writes(B[0:lanes, 0:lanes])
            for c, p in T.grid(lanes, lanes):
                with T.sblock("turn"):
                    vc, vp = T.axis.remap("SS", [c, p])
                    B[vc, vp] = A[vp, vc]

    @T.prim_func(s_tir=True)
    def implementation(rows: T.handle, columns: T.handle):
        A = T.match_buffer(rows, (lanes, lanes), "float32", offset_factor=1, strides=[T.int32(), 1], scope="local")
        B = T.match_buffer(columns, (lanes, lanes), "float32", offset_factor=1, strides=[T.int32(), 1], scope="local")
        with T.sblock("root"):
            T.reads(A[0:lanes, 0:lanes])
            T.writes(B[0:lanes, 0:lanes])
            for c in range(lanes):  # stands for all columns
                B[c, T.ramp(0, 1, lanes)] = A[c, T.ramp(0, 1, lanes)]

    return description, implementation.with_body(_columns(implementation.body, lanes))


def _columns(stmt: tirx.Stmt, lanes: int) -> tirx.Stmt:
    """A statement whose one loop becomes the stores of all columns."""
    if not isinstance(stmt, tirx.For):
        return rebuilt(stmt, lambda part: _columns(part, lanes))
    rows, columns, vector = stmt.body.value.source, stmt.body.buffer, stmt.body.indices[1]
    loads = [tirx.BufferLoad(rows, [tirx.const(row, "int32"), vector]) for row in range(lanes)]
    stores = [tirx.BufferStore(columns, _column(loads, c), [tirx.const(c, "int32"), vector]) for c in range(lanes)]
    return tirx.SeqStmt(stores)


def _column(rows: Sequence[Scalar], column: int) -> Scalar:
    """The elements of all rows in a column."""
    lane, place = divmod(column, _LANE)
    turned = [_turned(rows[first : first + _LANE], place) for first in range(0, len(rows), _LANE)]
    if len(turned) < 3:
        return turned[0] if len(turned) == 1 else _lanes(turned[0], turned[1], [lane])
    pair = [lane // 2 * 2, lane // 2 * 2 + 1]
    first, second = (_lanes(turned[g], turned[g + 1], pair) for g in (0, 2))
    return _lanes(first, second, [lane % 2, 2 + lane % 2])


def _turned(rows: Sequence[Scalar], place: int) -> Scalar:
    """In each lane, the elements of four rows at a place of it."""
    half, other = divmod(place, 2)
    width = _width(rows[0])
    lanes = range(0, width, _LANE)
    alternating = [at + 2 * half + step + of for at in lanes for step in (0, 1) for of in (0, width)]
    low, high = _shuffled(rows[0], rows[1], alternating), _shuffled(rows[2], rows[3], alternating)
    return _shuffled(low, high, [at + 2 * other + step + of for at in lanes for of in (0, width) for step in (0, 1)])


def _lanes(a: Scalar, b: Scalar, lanes: Sequence[int]) -> Scalar:
    """Some lanes of one vector, then those of another."""
    return _shuffled(a, b, [of + _LANE * lane + i for of in (0, _width(a)) for lane in lanes for i in range(_LANE)])


def _shuffled(a: Scalar, b: Scalar, picks: Sequence[int]) -> Scalar:
    return tirx.Shuffle([a, b], [tirx.const(pick, "int32") for pick in picks])


def _width(vector: Scalar) -> int:
    return int(str(vector.ty.dtype).partition("x")[2])
