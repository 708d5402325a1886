"""Compare masks: M neighbouring predicates become one integer in one or two instructions.

The description is the plain reduction ``mask += predicate[lane] << lane``; the implementation bit-casts a vector of M
booleans to an M-bit integer, which LLVM lowers to a move from a mask register (AVX-512), ``movmskps``/``pmovmskb``
(AVX2) or its equivalent elsewhere. One spelling therefore serves every target.
"""

from tvm.s_tir import Schedule, TensorIntrin
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.script import tirx as T


def _register(lanes: int) -> str:
    name = f"bnn_mask_{lanes}"
    if TensorIntrin.get(name, allow_missing=True) is not None:
        return name

    @T.prim_func(s_tir=True)
    def description(predicates: T.handle, mask: T.handle):
        bits = T.match_buffer(predicates, (lanes,), "bool", offset_factor=1, scope="local")
        word = T.match_buffer(mask, (1,), "uint32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(word[0], bits[0:lanes])
            T.writes(word[0])
            for k in range(lanes):
                with T.sblock("gather"):
                    lane = T.axis.reduce(lanes, k)
                    word[0] = word[0] + T.shift_left(T.Cast("uint32", bits[lane]), T.Cast("uint32", lane))

    @T.prim_func(s_tir=True)
    def implementation(predicates: T.handle, mask: T.handle):
        bits = T.match_buffer(predicates, (lanes,), "bool", offset_factor=1, scope="local")
        word = T.match_buffer(mask, (1,), "uint32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(word[0], bits[0:lanes])
            T.writes(word[0])
            word[0] = word[0] + T.Cast(
                "uint32", T.reinterpret(f"uint{lanes}", T.Cast(f"uint1x{lanes}", bits[T.ramp(0, 1, lanes)]))
            )

    TensorIntrin.register(name, description, implementation)
    return name


def gather_mask(sch: Schedule, mask: SBlockRV, lane_loop: LoopRV, lanes: int) -> None:
    """Turn the lane loop of a mask stage into one bit-cast. Its buffers must be in scope "local"."""
    sch.decompose_reduction(mask, lane_loop)
    sch.tensorize(lane_loop, _register(lanes))
