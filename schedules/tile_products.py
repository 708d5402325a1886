"""Products of tiles on tensor cores, as instructions of a schedule: what each means, and how a warp executes it.

A tile of sums lies in the registers of a warp's 32 threads. With ``group = lane // 4`` and ``pair = lane % 4``, in the
PTX manual's words, register i of a thread is

    of sums      [group + 8 * (i // 2), 2 * pair + i % 2]
    of the left  row group + 8 * (i % (rows / 8)), word pair + 4 * (i // (rows / 8))
    of the right column group, word pair + 4 * i

for all shapes that there are: a row is 4 words or 8, of 32 bits, four bytes, two bfloat16 or one number of 19 bits
(tf32). Operands are read from shared memory; nvcc keeps those that the next products read as well in registers.

Where bits become bytes (m16n8k32 of u8), a product of four words is four instructions. All threads with a row or column
read its word, and take other bits: register i has bits ``pair + 4 * (i // (rows / 8))`` and every eighth from there on.
Which of the 32 places of a sum a bit has does not matter, as long as both operands have it there.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tvm import tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from tvm_bnn.gpus import WARP, Product
from tvm_bnn.lower.tensor_core import dot

# mypy: disable-error-code="valid-type"
# (TVMScript writes shapes where Python expects types)


class Instructions(NamedTuple):
    """Names of what a tile of sums goes through: it begins, products are added, and it is stored."""

    begin: str
    add: str
    store: str


def lane_of(row, column):
    """The thread whose register has a sum, of the tile that it lies in."""
    return row % 8 * 4 + column % 8 // 2


def register_of(row, column, rows: int):
    """Which of its registers that is; rows : of a tile."""
    return row % rows // 8 * 2 + column % 2 if rows > 8 else column % 2


def registers(product: Product) -> int:
    """Sums of a tile that a thread has."""
    return product.rows * product.columns // WARP


def instructions(product: Product, scope: str) -> Instructions:
    """The names of a product's instructions, which TVM knows from then on; scope : of the memory that sums go to."""
    kind = f"bnn_{product.shape}_{product.operands}_{product.operation}"
    defined: dict[str, Callable] = {
        f"{kind}_begin": _begin,
        f"{kind}_add": _add,
        f"{kind}_store_{scope}": partial(_store, scope=scope),
    }
    for name, define in defined.items():
        if TensorIntrin.get(name, allow_missing=True) is None:
            TensorIntrin.register(name, *define(product))
    return Instructions(*defined)


def _begin(product: Product) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    rows, columns, held, dtype = product.rows, product.columns, registers(product), product.sums
    zero = tirx.const(0, dtype)

    @T.prim_func(s_tir=True)
    def description(sums: T.handle):
        tile = T.match_buffer(sums, (WARP, held), dtype, offset_factor=1, scope="warp")
        with T.sblock("root"):
            T.reads()
            T.writes(tile[0:WARP, 0:held])
            for i, j in T.grid(rows, columns):
                with T.sblock("begin"):
                    row, column = T.axis.remap("SS", [i, j])
                    tile[lane_of(row, column), register_of(row, column, rows)] = zero

    @T.prim_func(s_tir=True)
    def implementation(sums: T.handle):
        tile = T.match_buffer(sums, (WARP, held), dtype, offset_factor=1, scope="warp")
        with T.sblock("root"):
            T.reads()
            T.writes(tile[0:WARP, 0:held])
            lane = T.env_thread("threadIdx.x")
            T.launch_thread(lane, WARP)
            for i in T.unroll(held):
                tile[lane, i] = zero

    return description, implementation


def _add(product: Product) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    rows, columns, words, dtype = product.rows, product.columns, product.words, product.sums
    held, height, kind = registers(product), product.rows // 8, product.operands
    sums = "f32" if dtype == "float32" else "s32"
    counted = f".{product.operation}.popc" if kind == "b1" else ""
    instruction = T.ptx[f"mma.sync.aligned.{product.shape}.row.col.{sums}.{kind}.{kind}.{sums}{counted}"]
    whole = kind != "u8"
    parts = words // 4 if whole else 2  # registers of a row

    def loaded(operand, row, lane, part, time):
        """A register: a word, or four bits of one as bytes."""
        place = lane % 4 + 4 * part
        if whole:
            return operand[row, place]
        return T.bitwise_and(T.shift_right(operand[row, time], T.Cast("uint32", place)), T.uint32(0x01010101))

    @T.prim_func(s_tir=True)
    def description(left: T.handle, right: T.handle, sums: T.handle):
        a = T.match_buffer(left, (rows, words), "uint32", offset_factor=1, scope="shared", strides=[T.int32(), 1])
        b = T.match_buffer(right, (columns, words), "uint32", offset_factor=1, scope="shared", strides=[T.int32(), 1])
        tile = T.match_buffer(sums, (WARP, held), dtype, offset_factor=1, scope="warp")
        with T.sblock("root"):
            T.reads(tile[0:WARP, 0:held], a[0:rows, 0:words], b[0:columns, 0:words])
            T.writes(tile[0:WARP, 0:held])
            for i, j, k in T.grid(rows, columns, words):
                with T.sblock("add"):
                    row, column, word = T.axis.remap("SSR", [i, j, k])
                    tile[lane_of(row, column), register_of(row, column, rows)] = tile[
                        lane_of(row, column), register_of(row, column, rows)
                    ] + dot(product, a[row, word], b[column, word])

    @T.prim_func(s_tir=True)
    def implementation(left: T.handle, right: T.handle, sums: T.handle):
        a = T.match_buffer(left, (rows, words), "uint32", offset_factor=1, scope="shared", strides=[T.int32(), 1])
        b = T.match_buffer(right, (columns, words), "uint32", offset_factor=1, scope="shared", strides=[T.int32(), 1])
        tile = T.match_buffer(sums, (WARP, held), dtype, offset_factor=1, scope="warp")
        with T.sblock("root"):
            T.reads(tile[0:WARP, 0:held], a[0:rows, 0:words], b[0:columns, 0:words])
            T.writes(tile[0:WARP, 0:held])
            lane = T.env_thread("threadIdx.x")
            T.launch_thread(lane, WARP)
            for time in T.unroll(product.instructions):
                instruction(
                    *[tile[lane, i] for i in range(held)],
                    *[loaded(a, lane // 4 + 8 * (i % height), lane, i // height, time) for i in range(height * parts)],
                    *[loaded(b, lane // 4, lane, i, time) for i in range(parts)],
                    *[tile[lane, i] for i in range(held)],
                )

    return description, implementation


def _store(product: Product, scope: str) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    rows, columns, held, dtype = product.rows, product.columns, registers(product), product.sums

    @T.prim_func(s_tir=True)
    def description(sums: T.handle, result: T.handle):
        tile = T.match_buffer(sums, (WARP, held), dtype, offset_factor=1, scope="warp")
        out = T.match_buffer(result, (rows, columns), dtype, offset_factor=1, scope=scope, strides=[T.int32(), 1])
        with T.sblock("root"):
            T.reads(tile[0:WARP, 0:held])
            T.writes(out[0:rows, 0:columns])
            for i, j in T.grid(rows, columns):
                with T.sblock("store"):
                    row, column = T.axis.remap("SS", [i, j])
                    out[row, column] = tile[lane_of(row, column), register_of(row, column, rows)]

    @T.prim_func(s_tir=True)
    def implementation(sums: T.handle, result: T.handle):
        tile = T.match_buffer(sums, (WARP, held), dtype, offset_factor=1, scope="warp")
        out = T.match_buffer(result, (rows, columns), dtype, offset_factor=1, scope=scope, strides=[T.int32(), 1])
        with T.sblock("root"):
            T.reads(tile[0:WARP, 0:held])
            T.writes(out[0:rows, 0:columns])
            lane = T.env_thread("threadIdx.x")
            T.launch_thread(lane, WARP)
            for i in T.unroll(held):
                out[lane // 4 + i // 2 * 8, lane % 4 * 2 + i % 2] = tile[lane, i]

    return description, implementation
