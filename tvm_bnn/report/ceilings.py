"""Kernels that do nothing but what a limit is about, for `tvm_bnn.report.machine` to time.

Each is one TensorIR function of a seed and a result. The arithmetic ones keep several independent accumulators in
registers and meet memory only before and after their loop. An accumulator is an operand of its own next value, so
nothing can be moved out of the loop. How many chains of accumulators keep a processor busiest depends on it: enough
to cover the latency of an instruction (4 cycles at up to two a cycle), few enough to leave registers for operands.
So each kernel comes in several versions, and the fastest is the ceiling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx
from tvm.script import tirx as T

from tvm_bnn.arithmetic import fma
from tvm_bnn.targets import Target

#: 14 vectors of 512 bits are the most whose buffer TVM leaves on the stack, from where LLVM puts it into registers.
CHAINS = (8, 14)
#: Lanes of a copied vector; LLVM splits it into what the processor has.
COPY_LANES = 16

Step = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class Ceiling:
    """A kernel to time.

    func : PrimFunc of (seed, result), both of that shape and dtype; a row a thread.
    macs : multiply-accumulates of one call.
    """

    func: tirx.PrimFunc
    shape: tuple[int, int]
    dtype: str
    macs: int


def binary(target: Target, threads: int, steps: int) -> list[Ceiling]:
    """xor + popcount + add, for every width that a popcount may have: which is fastest depends on the processor.

    A binary multiply-accumulate is one bit of a vector.
    """

    def step(acc: Any, a: Any, b: Any) -> Any:
        return acc + tirx.popcount(acc ^ a)

    return [
        _loop(chains, target.vector_bits // bits, f"uint{bits}", threads, steps, step, target.vector_bits)
        for bits in (8, 32, 64)
        for chains in CHAINS
    ]


def fp32(target: Target, threads: int, steps: int) -> list[Ceiling]:
    """Fused multiply-adds in float32."""
    lanes = target.vector_bits // 32
    return [_loop(chains, lanes, "float32", threads, steps, fma, lanes) for chains in CHAINS]


def int8(target: Target, threads: int, steps: int) -> list[Ceiling]:
    """Dot products of four int8 pairs summed into int32; empty for a processor without such an instruction."""
    for feature, intrinsic, lanes in _INT8_DOTS:
        if target.arch == feature.arch and target.has(feature.name):
            return [_dots(intrinsic, chains, lanes, threads, steps) for chains in CHAINS]
    return []


@dataclass(frozen=True)
class _Feature:
    arch: str
    name: str


# The first row whose feature the target has is the widest.
_INT8_DOTS = (
    (_Feature("x86_64", "avx512vnni"), "llvm.x86.avx512.vpdpbusd.512", 16),
    (_Feature("x86_64", "avxvnni"), "llvm.x86.avx512.vpdpbusd.256", 8),
    (_Feature("aarch64", "dotprod"), "llvm.aarch64.neon.sdot.v4i32.v16i8", 4),
)


def _loop(chains: int, lanes: int, dtype: str, threads: int, steps: int, step: Step, macs: int) -> Ceiling:
    """acc = step(acc, a, b) on vectors, `steps` times in every chain; a and b are vectors of the seed."""
    width = chains * lanes

    @T.prim_func
    def main(seed: T.Buffer((threads, width), dtype), result: T.Buffer((threads, width), dtype)) -> None:  # type: ignore[valid-type]
        for t in T.parallel(threads):
            acc = T.alloc_buffer((width,), dtype)
            for u in T.unroll(chains):
                for v in T.vectorized(lanes):
                    acc[u * lanes + v] = seed[t, u * lanes + v]
            for _k in T.serial(steps):
                for u in T.unroll(chains):
                    for v in T.vectorized(lanes):
                        acc[u * lanes + v] = step(acc[u * lanes + v], seed[t, v], seed[t, lanes + v])
            for u in T.unroll(chains):
                for v in T.vectorized(lanes):
                    result[t, u * lanes + v] = acc[u * lanes + v]

    return Ceiling(main, (threads, width), dtype, steps * chains * threads * macs)


def _dots(intrinsic: str, chains: int, lanes: int, threads: int, steps: int) -> Ceiling:
    """acc = dot(acc, a, b) with an LLVM intrinsic on whole vectors."""
    width = chains * lanes
    vector, quads = f"int32x{lanes}", f"int8x{4 * lanes}"

    @T.prim_func
    def main(seed: T.Buffer((threads, width), "int32"), result: T.Buffer((threads, width), "int32")) -> None:  # type: ignore[valid-type]
        for t in T.parallel(threads):
            acc = T.alloc_buffer((width,), "int32")
            for u in T.unroll(chains):
                acc[T.ramp(u * lanes, 1, lanes)] = seed[t, T.ramp(u * lanes, 1, lanes)]
            for _k in T.serial(steps):
                for u in T.unroll(chains):
                    acc[T.ramp(u * lanes, 1, lanes)] = T.call_llvm_pure_intrin(
                        vector,
                        intrinsic,
                        acc[T.ramp(u * lanes, 1, lanes)],
                        T.reinterpret(quads, seed[t, T.ramp(0, 1, lanes)]),
                        T.reinterpret(quads, seed[t, T.ramp(lanes, 1, lanes)]),
                    )
            for u in T.unroll(chains):
                result[t, T.ramp(u * lanes, 1, lanes)] = acc[T.ramp(u * lanes, 1, lanes)]

    return Ceiling(main, (threads, width), "int32", steps * chains * threads * lanes * 4)


def tiles(target: Target, threads: int, steps: int) -> list[Ceiling]:
    """Products of tiles of int8, 16x64 times 64x16, summed into int32; empty for a processor without AMX.

    Five of the eight registers for tiles are sums, which begin with the seed; the operands are its last two tiles.
    """
    if not target.has("amx-int8"):
        return []
    sums, size = 5, 16 * 16
    width = (sums + 2) * size

    @T.prim_func
    def main(seed: T.Buffer((threads, width), "int32"), result: T.Buffer((threads, width), "int32")) -> None:  # type: ignore[valid-type]
        for t in T.parallel(threads):
            shape = T.alloc_buffer((16,), "uint32")
            for word in T.unroll(16):
                shape[word] = _tile_configuration(word)
            T.evaluate(T.call_llvm_intrin("int32", "llvm.x86.ldtilecfg", shape.access_ptr("r")))
            for u in T.unroll(sums + 2):
                T.evaluate(_tile("tileloadd64", u, seed.access_ptr("r", offset=t * width + u * size), T.int64(64)))
            for _k in T.serial(steps):
                for u in T.unroll(sums):
                    T.evaluate(_tile("tdpbssd", u, T.uint8(sums), T.uint8(sums + 1)))
            for u in T.unroll(sums + 2):
                T.evaluate(_tile("tilestored64", u, result.access_ptr("w", offset=t * width + u * size), T.int64(64)))
            T.evaluate(T.call_llvm_intrin("int32", "llvm.x86.tilerelease"))

    return [Ceiling(main, (threads, width), "int32", steps * sums * threads * size * 64)]


def _tile_configuration(word: Any) -> Any:
    """Words of the 64 bytes that give the registers their shape: palette 1, 64 bytes a row, 16 rows."""
    row_bytes = tirx.Select(tirx.all(word >= 4, word < 8), T.uint32(0x00400040), T.uint32(0))
    rows = tirx.Select(tirx.all(word >= 12, word < 14), T.uint32(0x10101010), row_bytes)
    return tirx.Select(tirx.EQ(word, 0), T.uint32(1), rows)


def _tile(operation: str, register: Any, *operands: Any) -> Any:
    """An operation of LLVM's on a tile register."""
    return T.call_llvm_intrin("int32", f"llvm.x86.{operation}", T.Cast("uint8", register), *operands)


def copy(count: int, threads: int) -> tirx.PrimFunc:
    """result[i] = source[i] for float32 [count]; count must be a multiple of threads * COPY_LANES."""
    share = count // threads // COPY_LANES
    assert share * threads * COPY_LANES == count

    @T.prim_func
    def main(source: T.Buffer((count,), "float32"), result: T.Buffer((count,), "float32")) -> None:  # type: ignore[valid-type]
        for t in T.parallel(threads):
            for i in T.serial(share):
                for v in T.vectorized(COPY_LANES):
                    result[(t * share + i) * COPY_LANES + v] = source[(t * share + i) * COPY_LANES + v]

    return main


def build(func: tirx.PrimFunc, target: Target) -> Any:
    """The function compiled for the target: an executable of TVM's that has it as `main`, of TVM's tensors."""
    module = tvm.IRModule({"main": func.with_attr("global_symbol", "main").with_attr("tirx.is_scheduled", True)})
    return tvm.compile(module, target=target.tvm())
