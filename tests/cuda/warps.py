"""What the 32 threads of a warp do together, as the PTX manual defines it; arrays are [warps, 32], a register each.

Of ``mma`` on single bits, and on bytes (sections "Matrix fragments for mma.m8n8k128", "... for mma.m16n8k256" and "...
for mma.m16n8k32"), with ``group = lane / 4`` and ``pair = lane % 4``:

========  ==========================================  =====================================  ==========================
shape     register i of A holds                       register i of B holds                  register i of C, D is
========  ==========================================  =====================================  ==========================
m8n8k128  row group, bits 32*pair ..                  column group, bits 32*pair ..          [group, 2*pair + i]
m16n8k256 row group + 8*(i % 2),                      column group, bits 32*pair + 128*i ..  [group + 8*(i / 2),
          bits 32*pair + 128*(i / 2) ..                                                       2*pair + i % 2]
========  ==========================================  =====================================  ==========================

m16n8k32 is as m16n8k256, with four bytes where that has 32 bits.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_LANE = np.arange(32)
_GROUP, _PAIR = _LANE // 4, _LANE % 4


@dataclass(frozen=True)
class Product:
    """One instruction: where registers lie in its tiles of words and sums, as (rows, columns) [registers, 32].

    count : words of both -> what each pair adds to a sum.
    """

    rows: int
    columns: int
    words: int
    a: list[tuple[np.ndarray, np.ndarray]]
    b: list[tuple[np.ndarray, np.ndarray]]
    c: list[tuple[np.ndarray, np.ndarray]]
    count: Callable

    @property
    def inputs(self) -> int:
        """Registers of both operands and of the sums before."""
        return len(self.a) + len(self.b) + len(self.c)


def product_of(words: list[str]) -> Product:
    """The instruction that modifiers name: "m8n8k128" or "m16n8k256", and "xor" or "and"; or "m16n8k32" of "u8"."""
    if "m16n8k32" in words:
        assert words.count("u8") == 2, words
        count = _dot_of_bytes
    else:
        assert ("xor" in words) != ("and" in words) and words.count("b1") == 2 and "popc" in words, words
        count = _ones_of_xor if "xor" in words else _ones_of_and
    if "m8n8k128" in words:
        a = b = [(_GROUP, _PAIR)]
        return Product(8, 8, 4, a, b, [(_GROUP, 2 * _PAIR + i) for i in range(2)], count)
    assert "m16n8k256" in words or "m16n8k32" in words, words
    return Product(
        16, 8, 8,
        [(_GROUP + 8 * (i % 2), _PAIR + 4 * (i // 2)) for i in range(4)],
        [(_GROUP, _PAIR + 4 * i) for i in range(2)],
        [(_GROUP + 8 * (i // 2), 2 * _PAIR + i % 2) for i in range(4)],
        count,
    )  # fmt: skip


def _ones_of_xor(a, b):
    return np.bitwise_count(a ^ b).astype(np.uint32)


def _ones_of_and(a, b):
    return np.bitwise_count(a & b).astype(np.uint32)


def _dot_of_bytes(a, b):
    return sum(((a >> i) & 255) * ((b >> i) & 255) for i in (0, 8, 16, 24))


def multiply(product: Product, registers: list[np.ndarray]) -> list[np.ndarray]:
    """The registers of the result, of those of A, B and C."""
    warps = len(registers[0])
    operands, rest = [], list(registers)
    for rows, columns, places in (
        (product.rows, product.words, product.a),
        (product.columns, product.words, product.b),
        (product.rows, product.columns, product.c),
    ):
        tile = np.zeros((warps, rows, columns), np.uint32)
        for row, column in places:
            tile[:, row, column] = rest.pop(0)
        operands.append(tile)
    a, b, c = operands
    d = c + product.count(a[:, :, None], b[:, None]).sum(axis=3, dtype=np.uint32)
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
