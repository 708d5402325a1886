"""What the 32 threads of a warp do together, as the PTX manual defines it; arrays are [warps, 32], a register each.

Of ``mma`` (sections "Matrix fragments for mma.m8n8k128", "... for mma.m16n8k256" and so on), with ``group = lane / 4``
and ``pair = lane % 4``; a register of A or B is a word of the elements that the table counts:

=========  ========================================== ======================================  ==========================
shape      register i of A holds                      register i of B holds                   register i of C, D is
=========  ========================================== ======================================  ==========================
m8n8k128   row group, bits 32*pair ..                 column group, bits 32*pair ..           [group, 2*pair + i]
m8n8k16    row group, bytes 4*pair ..                 column group, bytes 4*pair ..           [group, 2*pair + i]
m16n8k256  row group + 8*(i % 2),                     column group, bits 32*pair + 128*i ..   [group + 8*(i / 2),
           bits 32*pair + 128*(i / 2) ..                                                       2*pair + i % 2]
m16n8k32   row group + 8*(i % 2),                     column group, bytes 4*pair + 16*i ..    as above
           bytes 4*pair + 16*(i / 2) ..
m16n8k16   row group + 8*(i % 2),                     column group, halves 2*pair + 8*i ..    as above
           halves 2*pair + 8*(i / 2) ..
m16n8k8    row group + 8*(i % 2),                     column group, number pair + 4*i         as above
           number pair + 4*(i / 2)
=========  ========================================== ======================================  ==========================

Sums of floats are exact here, and rounded once, where a tensor core may round more often.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_LANE = np.arange(32)
_GROUP, _PAIR = _LANE // 4, _LANE % 4


@dataclass(frozen=True)
class Product:
    """One instruction: where registers lie in its tiles of words and sums, as (rows, columns) [registers, 32].

    count : words of both -> what each pair adds to a sum. exact : dtype that holds all sums before they are rounded.
    """

    rows: int
    columns: int
    words: int
    a: list[tuple[np.ndarray, np.ndarray]]
    b: list[tuple[np.ndarray, np.ndarray]]
    c: list[tuple[np.ndarray, np.ndarray]]
    count: Callable
    exact: type

    @property
    def inputs(self) -> int:
        """Registers of both operands and of the sums before."""
        return len(self.a) + len(self.b) + len(self.c)


def product_of(words: list[str]) -> Product:
    """The instruction that modifiers name: a shape, both operands, and for bits "xor" or "and", and "popc"."""
    (shape,) = (word for word in words if word[:1] == "m" and word[1:2].isdigit())
    (kind,) = (kind for kind in _SHAPES if words.count(kind) == 2)
    assert shape in _SHAPES[kind], words
    sums = "f32" if kind in ("bf16", "tf32") else "s32"
    assert words.count(sums) == 2 and ("popc" in words) == (kind == "b1"), words
    if kind == "b1":
        assert ("xor" in words) != ("and" in words), words
        count: Callable = _ones_of_xor if "xor" in words else _ones_of_and
    else:
        dots = {"u8": _dot_of_bytes, "s8": _dot_of_signed_bytes, "bf16": _dot_of_halves, "tf32": _product_of_tf32}
        count = dots[kind]
    exact = np.float64 if sums == "f32" else np.int64
    if shape.startswith("m8"):
        a = b = [(_GROUP, _PAIR)]
        return Product(8, 8, 4, a, b, [(_GROUP, 2 * _PAIR + i) for i in range(2)], count, exact)
    return Product(
        16, 8, 8,
        [(_GROUP + 8 * (i % 2), _PAIR + 4 * (i // 2)) for i in range(4)],
        [(_GROUP, _PAIR + 4 * i) for i in range(2)],
        [(_GROUP + 8 * (i // 2), 2 * _PAIR + i % 2) for i in range(4)],
        count, exact,
    )  # fmt: skip


#: Operands of a product -> its shapes.
_SHAPES = {
    "b1": ("m8n8k128", "m16n8k256"),
    "u8": ("m16n8k32",),
    "s8": ("m8n8k16", "m16n8k32"),
    "bf16": ("m16n8k16",),
    "tf32": ("m16n8k8",),
}


def _ones_of_xor(a, b):
    return np.bitwise_count(a ^ b)


def _ones_of_and(a, b):
    return np.bitwise_count(a & b)


def _dot_of_bytes(a, b):
    return sum(((a >> i) & 255) * ((b >> i) & 255) for i in (0, 8, 16, 24))


def _dot_of_signed_bytes(a, b):
    parts = [np.ascontiguousarray(each)[..., None].view(np.int8).astype(np.int64) for each in (a, b)]
    return (parts[0] * parts[1]).sum(axis=-1)


def _dot_of_halves(a, b):
    return _float(a << 16) * _float(b << 16) + _float(a & 0xFFFF0000) * _float(b & 0xFFFF0000)


def _product_of_tf32(a, b):
    return _float(a & 0xFFFFE000) * _float(b & 0xFFFFE000)  # it does not see the last 13 bits


def _float(word):
    return np.ascontiguousarray(word).view(np.float32).astype(np.float64)


def multiply(product: Product, registers: list[np.ndarray]) -> list[np.ndarray]:
    """The registers of the result, of those of A, B and C."""
    warps = len(registers[0])
    operands, rest = [], list(registers)
    for rows, columns, places, dtype in (
        (product.rows, product.words, product.a, np.uint32),
        (product.columns, product.words, product.b, np.uint32),
        (product.rows, product.columns, product.c, product.exact),
    ):
        tile: np.ndarray = np.zeros((warps, rows, columns), dtype)
        for row, column in places:
            tile[:, row, column] = rest.pop(0)
        operands.append(tile)
    a, b, c = operands
    d = c + product.count(a[:, :, None], b[:, None]).sum(axis=3, dtype=product.exact)
    return [d[:, row, column] for row, column in product.c]


def _down(mask, value, step, width):
    """Lane i has that of lane i + step, or its own where there is none."""
    return value[:, np.where(_LANE + int(step.flat[0]) < 32, _LANE + int(step.flat[0]), _LANE)]


def _from(mask, value, source, width):
    """All lanes have that of one of the warp's, taken modulo 32."""
    return np.take_along_axis(value, source.astype(np.int64) % 32, axis=1)


def _ballot(mask, value):
    """Bit i of what all lanes have is the predicate of lane i, 0 of one that is not in the mask."""
    if (mask != mask[:, :1]).any():
        raise ValueError("the lanes of a ballot name different members")
    votes = (value != 0) & (mask >> _LANE.astype(np.uint32) & 1 != 0)
    words = np.packbits(votes, axis=1, bitorder="little").view("<u4")
    return np.broadcast_to(words, value.shape)


#: Names of calls -> function of their arguments, in order.
MOVES: dict[str, Callable] = {
    "cuda.__shfl_down_sync": _down,
    "cuda.__shfl_sync": _from,
    "cuda.ballot_sync": _ballot,
}
