"""AMX: tiles of bytes multiplied in registers of 16 rows of 64 bytes, as tensor intrinsics.

A tile of output is ``rows`` x ``columns`` tiles of accumulators, registers 0 to rows * columns - 1; behind them a
register for each row's tile of input and for each column's tile of weights. Which register an intrinsic uses follows
from where its accumulators lie in their buffer, so that one intrinsic serves the whole unrolled tile. The buffer itself
is never touched: LLVM drops it.

The registers have a shape only while a configuration is loaded: ``configure`` asks for it around the body of a loop,
and ``load_configurations`` puts it there once a kernel is scheduled.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize, Schedule, TensorIntrin
from tvm.s_tir.schedule import LoopRV
from tvm.script import tirx as T

from tvm_bnn.lower.matrix import BYTES, TILE_FILTERS, TILE_WORDS, Operands
from tvm_bnn.lower.statements import loop_of, rebuilt

_CONFIGURE = "tvm_bnn.tiles"


@dataclass(frozen=True)
class TileShape:
    """Tiles of accumulators: rows x columns of them, each of so many pixels by 16 filters, and what is multiplied."""

    pixels: int
    rows: int
    columns: int
    operands: Operands = BYTES

    @property
    def stride(self) -> int:
        """Accumulators of a pixel."""
        return self.columns * TILE_FILTERS

    def configuration(self) -> bytes:
        """The 64 bytes that describe the registers: palette 1, bytes of a row and rows of each."""
        accumulators, registers = self.rows * self.columns, self.rows * self.columns + self.rows + self.columns
        rows = [self.pixels] * (accumulators + self.rows) + [TILE_WORDS] * self.columns
        row_bytes = b"".join((4 * TILE_WORDS).to_bytes(2, "little") for _ in range(registers))
        return bytes([1]) + bytes(15) + row_bytes.ljust(32, b"\0") + bytes(rows).ljust(16, b"\0")

    def zero(self) -> str:
        """Intrinsic: accumulators of a tile become 0."""
        return self._registered("zero", lambda: _zero(self))

    def multiply(self, step: int, kind: str) -> str:
        """Intrinsic: products with pixels that lie ``step`` apart in rows of a kind (see `Rows`) are added."""
        return self._registered(f"multiply_{kind}_{step}", lambda: _multiply(self, step, kind))

    def store(self) -> str:
        """Intrinsic: accumulators of a tile are stored."""
        return self._registered("store", lambda: _store(self))

    def _registered(self, kind: str, make: Callable) -> str:
        name = f"bnn_tiles_{kind}_{self.operands.dtype}_{self.pixels}x{self.rows}x{self.columns}"
        if TensorIntrin.get(name, allow_missing=True) is None:
            TensorIntrin.register(name, *make())
        return name


#: The instruction that multiplies tiles, by the dtype of the sums.
_PRODUCTS = {"int32": "llvm.x86.tdpbssd", "float32": "llvm.x86.tdpbf16ps"}


def _zero(shape: TileShape):
    pixels, stride, columns, dtype = shape.pixels, shape.stride, shape.columns, shape.operands.sums

    @T.prim_func(s_tir=True)
    def description(sums: T.handle):
        C = T.match_buffer(sums, (pixels, 16), dtype, offset_factor=16, strides=[stride, 1], scope="local")
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:pixels, 0:16])
            for m, n in T.grid(pixels, 16):
                with T.sblock("zero"):
                    vm, vn = T.axis.remap("SS", [m, n])
                    C[vm, vn] = tirx.const(0, dtype)

    @T.prim_func(s_tir=True)
    def implementation(sums: T.handle):
        C = T.match_buffer(sums, (pixels, 16), dtype, offset_factor=16, strides=[stride, 1], scope="local")
        with T.sblock("root"):
            T.reads()
            T.writes(C[0:pixels, 0:16])
            T.evaluate(
                T.call_llvm_intrin(
                    "int32",
                    "llvm.x86.tilezero",
                    T.Cast("uint8", C.elem_offset // (pixels * stride) * columns + C.elem_offset % stride // 16),
                )
            )

    return description, implementation


def _multiply(shape: TileShape, step: int, kind: str):
    operands, (extents, reached) = shape.operands, _loaded(shape, step, kind)
    dtype = "uint32" if kind == "words" else operands.dtype
    per_word, sums_dtype, product = operands.per_word, operands.sums, operands.product
    pixels, stride, columns = shape.pixels, shape.stride, shape.columns
    data, weights = shape.rows * columns, shape.rows * columns + shape.rows  # first registers of each
    instruction = _PRODUCTS[sums_dtype]

    def strides():
        return [T.int32(), 1] if kind == "pixels" else []

    def bytes_apart(A):
        return (A.strides[0] if kind == "pixels" else 1) * step * _ITEMSIZE[dtype]

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, sums: T.handle):
        A = T.match_buffer(a, extents, dtype, offset_factor=1, strides=strides())
        B = T.match_buffer(b, (16, 16, per_word), operands.dtype, offset_factor=1)
        C = T.match_buffer(sums, (pixels, 16), sums_dtype, offset_factor=16, strides=[stride, 1], scope="local")
        with T.sblock("root"):
            T.reads(C[0:pixels, 0:16], whole(A), B[0:16, 0:16, 0:per_word])
            T.writes(C[0:pixels, 0:16])
            for m, n, kq, kr in T.grid(pixels, 16, 16, per_word):
                with T.sblock("multiply"):
                    vm, vn, vq, vr = T.axis.remap("SSRR", [m, n, kq, kr])
                    C[vm, vn] = C[vm, vn] + product(reached(A, vm, vq, vr), B[vq, vn, vr])

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, sums: T.handle):
        A = T.match_buffer(a, extents, dtype, offset_factor=1, strides=strides())
        B = T.match_buffer(b, (16, 16, per_word), operands.dtype, offset_factor=1)
        C = T.match_buffer(sums, (pixels, 16), sums_dtype, offset_factor=16, strides=[stride, 1], scope="local")
        with T.sblock("root"):
            T.reads(C[0:pixels, 0:16], whole(A), B[0:16, 0:16, 0:per_word])
            T.writes(C[0:pixels, 0:16])
            # the first tile of a row or column of tiles loads what the others share with it
            if C.elem_offset % stride == 0:
                T.evaluate(
                    T.call_llvm_intrin(
                        "int32",
                        "llvm.x86.tileloadd64",
                        T.Cast("uint8", data + C.elem_offset // (pixels * stride)),
                        A.access_ptr("r"),
                        T.Cast("int64", bytes_apart(A)),
                    )
                )
            if C.elem_offset // (pixels * stride) == 0:
                T.evaluate(
                    T.call_llvm_intrin(
                        "int32",
                        "llvm.x86.tileloadd64",
                        T.Cast("uint8", weights + C.elem_offset % stride // 16),
                        B.access_ptr("r"),
                        T.int64(64),
                    )
                )
            T.evaluate(
                T.call_llvm_intrin(
                    "int32",
                    instruction,
                    T.Cast("uint8", C.elem_offset // (pixels * stride) * columns + C.elem_offset % stride // 16),
                    T.Cast("uint8", data + C.elem_offset // (pixels * stride)),
                    T.Cast("uint8", weights + C.elem_offset % stride // 16),
                )
            )

    return description, implementation


_ITEMSIZE = {"int8": 1, "uint16": 2, "uint32": 4}


def _loaded(shape: TileShape, step: int, kind: str) -> tuple[tuple[int, ...], Callable]:
    """What a load of input reaches: extents of the buffer, and (buffer, pixel, word, element) -> element."""
    operands, span = shape.operands, (shape.pixels - 1) * step
    per_word, channels = operands.per_word, operands.channels
    if kind == "pixels":
        return (span + 1, channels), lambda A, m, q, r: A[m * step, q * per_word + r]
    if kind == "run":
        return (span + channels,), lambda A, m, q, r: A[m * step + (q * per_word + r)]
    return (span + TILE_WORDS,), lambda A, m, q, r: operands.of_word(A[m * step + q], r)


def whole(buffer):
    """The region of all of a buffer."""
    return buffer[tuple(slice(0, extent) for extent in buffer.shape)]


def _store(shape: TileShape):
    pixels, stride, columns, dtype = shape.pixels, shape.stride, shape.columns, shape.operands.sums

    @T.prim_func(s_tir=True)
    def description(sums: T.handle, out: T.handle):
        C = T.match_buffer(sums, (pixels, 16), dtype, offset_factor=16, strides=[stride, 1], scope="local")
        D = T.match_buffer(out, (pixels, 16), dtype, offset_factor=1, strides=[T.int32(), 1], scope="local")
        with T.sblock("root"):
            T.reads(C[0:pixels, 0:16])
            T.writes(D[0:pixels, 0:16])
            for m, n in T.grid(pixels, 16):
                with T.sblock("store"):
                    vm, vn = T.axis.remap("SS", [m, n])
                    D[vm, vn] = C[vm, vn]

    @T.prim_func(s_tir=True)
    def implementation(sums: T.handle, out: T.handle):
        apart = T.int32()
        C = T.match_buffer(sums, (pixels, 16), dtype, offset_factor=16, strides=[stride, 1], scope="local")
        D = T.match_buffer(out, (pixels, 16), dtype, offset_factor=1, strides=[apart, 1], scope="local")
        with T.sblock("root"):
            T.reads(C[0:pixels, 0:16])
            T.writes(D[0:pixels, 0:16])
            T.evaluate(
                T.call_llvm_intrin(
                    "int32",
                    "llvm.x86.tilestored64",
                    T.Cast("uint8", C.elem_offset // (pixels * stride) * columns + C.elem_offset % stride // 16),
                    D.access_ptr("w"),
                    T.Cast("int64", apart * 4),
                )
            )

    return description, implementation


def configure(sch: Schedule, loop: LoopRV, shape: TileShape) -> None:
    """Ask for the registers of a shape in the body of a loop."""
    sch.annotate(loop, _CONFIGURE, shape.configuration().hex())


def load_configurations(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Load the configurations that loops of a scheduled kernel ask for, and free the registers behind their bodies."""
    return func.with_body(_with_configurations(func.body))


def _with_configurations(stmt: tirx.Stmt) -> tirx.Stmt:
    if isinstance(stmt, tirx.For) and _CONFIGURE in stmt.annotations:
        body = _configured(stmt.body, bytes.fromhex(stmt.annotations[_CONFIGURE]))
        rest = {key: value for key, value in stmt.annotations.items() if key != _CONFIGURE}
        return loop_of(stmt, body, annotations=rest)
    return rebuilt(stmt, _with_configurations)


def _configured(body: tirx.Stmt, configuration: bytes) -> tirx.Stmt:
    buffer = tirx.decl_buffer((len(configuration) // 4,), "uint32", name="configuration", scope="local")
    words = [int.from_bytes(configuration[i : i + 4], "little") for i in range(0, len(configuration), 4)]
    stores = [tirx.BufferStore(buffer, tirx.const(word, "uint32"), [i]) for i, word in enumerate(words)]
    load = tirx.Evaluate(tirx.call_llvm_intrin("int32", "llvm.x86.ldtilecfg", buffer.access_ptr("r")))
    free = tirx.Evaluate(tirx.call_llvm_intrin("int32", "llvm.x86.tilerelease"))
    block = SBlock([], [], [], "tiles", tirx.SeqStmt([*stores, load, body, free]), alloc_buffers=[buffer])
    return SBlockRealize([], tirx.const(True), block)
