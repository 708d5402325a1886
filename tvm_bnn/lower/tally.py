"""Tests of integer sums, made of what is counted: one comparison with a constant.

A sum is ``base - 2 * count`` of different bits, or the count itself (a sum of products). ``bnn.interval`` of it,
``lowest <= sum <= lowest + span``, is then a test of the count, whose ends are known when the kernel is built: where it
is a threshold of one direction in every filter, nothing but the comparison is left to do for an element.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import relax, tirx

from tvm_bnn.lower.index import Index, Scalar
from tvm_bnn.lower.layout import padded_channels
from tvm_bnn.relay_passes.fold_constants import is_constant, value_of
from tvm_bnn.relay_passes.rewriter import op_name


@dataclass(frozen=True)
class Table:
    """Constants per filter and border class: values [O or 1, CY, CX], and the class of each row and column."""

    values: np.ndarray
    rows: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()

    @property
    def has_classes(self) -> bool:
        """Whether values differ from border class to border class."""
        return self.values.shape[1:] != (1, 1)

    @classmethod
    def of_number(cls, value: int) -> "Table":
        """One value for all, int32."""
        return cls(np.full((1, 1, 1), value, np.int32))

    @classmethod
    def of(cls, expr: relax.Expr, lookup: Callable) -> "Table | None":
        """The table behind an operand [1, O, 1, 1] or ``bnn.border_bias``; None where it is neither."""
        if is_constant(expr):
            value = value_of(expr)
            return cls(value.reshape(-1, 1, 1)) if value.size == 1 or value.shape == (1, value.size, 1, 1) else None
        bound = lookup(expr)
        if op_name(bound) != "bnn.border_bias":
            return None
        rows, columns = (tuple(int(c) for c in bound.attrs[name]) for name in ("row_class", "column_class"))
        return cls(value_of(bound.args[0]), rows, columns)


@dataclass(frozen=True)
class Tally:
    """What an integer sum is counted by.

    count : logical index -> the count, of a dtype. base : ``sum = base + factor * count``.
    least, most : the ends of what is counted. factor : -2 (different bits), 2 (equal ones) or 1.
    """

    count: Callable[[Index], Scalar]
    base: Table
    factor: int
    least: int
    most: int
    dtype: str

    def sum(self, read: Callable[[Table, Index], Scalar], index: Index) -> Scalar:
        """The integer sum, int32; read : loads a constant of a table at an index."""
        return read(self.base, index) + tirx.const(self.factor, "int32") * self.count(index).astype("int32")

    def part(self, read: Callable[[Table, Index], Scalar], index: Index) -> Scalar:
        """The integer sum over its factor, int32, where the base is even; read : loads a constant of a table."""
        base = Table(self.base.values // self.factor, self.base.rows, self.base.columns)
        count = self.count(index).astype("int32")
        return count + read(base, index) if base.values.any() else count

    def test(self, lowest: Table | None, span: Table | None, read: Callable[[Table, Index], Scalar], index: Index):
        """``bnn.interval`` of the sum as a test of the count; None where what tells it is in no tables alike.

        read : loads a constant of a table at an index. Nothing is subtracted: TVM and LLVM take it that even unsigned
        differences never wrap around.
        """
        if lowest is None or span is None:
            return None
        classed = [table for table in (self.base, lowest, span) if table.has_classes]
        if any((table.rows, table.columns) != (classed[0].rows, classed[0].columns) for table in classed):
            return None
        where = classed[0] if classed else self.base

        def constant(values: np.ndarray, dtype: str) -> Scalar:
            return read(Table(values.astype(dtype), where.rows, where.columns), index)

        first, last, outside = self._bounds(lowest, span)
        count = self.count(index)
        if not outside.any() and self.most < np.iinfo(self.dtype).max:
            if (first <= self.least).all():
                return count < constant(np.clip(last + 1, self.least, self.most + 1), self.dtype)
            if (last >= self.most).all():
                return count >= constant(np.clip(first, self.least, self.most + 1), self.dtype)
        first, last = np.maximum(first, self.least), np.minimum(last, self.most)
        never = last < first
        begin, end = (
            constant(np.where(never, self.most, first), self.dtype),
            constant(np.where(never, self.least, last), self.dtype),
        )
        if outside.all():
            return tirx.Or(count < begin, count > end)
        inside = tirx.And(count >= begin, count <= end)
        return tirx.NE(inside.astype("uint8"), constant(outside, "uint8")) if outside.any() else inside

    def _bounds(self, lowest: Table, span: Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First and last count [O, CY, CX] that pass; or, where the third is True, that alone do not."""
        low, high = (
            values.astype(np.int64) for values in (lowest.values, lowest.values.astype(np.int64) + span.values)
        )
        outside = high >= 1 << 31  # it wraps around: all but what lies between its end and its beginning
        low, high = np.where(outside, high - (1 << 32) + 1, low), np.where(outside, low - 1, high)
        base = self.base.values.astype(np.int64)
        first, last = low - base, high - base
        if self.factor < 0:
            first, last = -last, -first
        first, last = -(-first // abs(self.factor)), last // abs(self.factor)
        return first, last, np.broadcast_to(outside, first.shape)


def number_tally(number: Callable[[Index], Scalar]) -> Tally:
    """Any int32, as a sum that is counted by itself."""
    ends = np.iinfo(np.int32)
    return Tally(number, Table.of_number(0), 1, int(ends.min), int(ends.max), "int32")


def different_bits_tally(acc: Callable, base: Table, terms: int) -> Tally:
    """A sum of as many signs as there are terms, of a stage [N, H, W, O] that counts different bits, uint32."""
    return Tally(lambda index: acc(index[0], index[2], index[3], index[1]), base, -2, 0, terms, "uint32")


def start_of_different_bits(base: Table) -> Table | None:
    """Where the count of different bits has to begin so that -2 times it is a sum of signs; None where that is odd."""
    if (base.values % 2).any():
        return None
    return Table(-(base.values // 2).astype(np.int32), base.rows, base.columns)


def started_tally(acc: Callable, terms: int, dtype: str = "int32") -> Tally:
    """A sum of as many signs as there are terms, of a stage [N, H, W, O] of a dtype that counts so."""
    zero, half = Table.of_number(0), -(-terms // 2)
    return Tally(lambda index: acc(index[0], index[2], index[3], index[1]), zero, -2, -half, half, dtype)


def equal_bits_tally(base: Table, visited: Table, terms: int) -> tuple[Table, Callable[[Callable], Tally]]:
    """Where the count of equal bits has to begin so that twice of it is a sum of signs, and the tally of a stage
    [N, H, W, O] that counts so, int16 if that is enough.

    base : of different bits. visited : how many terms are counted, of which each is equal or different:
    ``base - 2 * different = base - 2 * visited + 2 * equal``. terms : of the sum. Where the number of those that lie
    inside is odd, so is the sum, whatever the filter, and 1 remains to be added.
    """
    odd = base.values[:1] % 2
    values = (base.values - 2 * visited.values - odd) // 2
    dtype = "int16" if -(1 << 15) <= values.min() and terms < 1 << 15 else "int32"
    classes = base.rows, base.columns
    rest = Table.of_number(int(odd.flat[0])) if (odd == odd.flat[0]).all() else Table(odd, *classes)

    def tally_of(acc: Callable) -> Tally:
        half = -(-terms // 2)
        return Tally(lambda index: acc(index[0], index[2], index[3], index[1]), rest, 2, -half, half, dtype)

    return Table(values.astype(dtype), *classes), tally_of


def product_tally(acc: Callable, terms: int) -> Tally:
    """A sum of as many signs as there are terms, which a stage [N, H, W, O] holds itself, int32."""
    zero = Table.of_number(0)
    return Tally(lambda index: acc(index[0], index[2], index[3], index[1]), zero, 1, -terms, terms, "int32")


def stored_table(table: Table) -> np.ndarray:
    """[CY, CX, O padded], channels last as kernels read them."""
    channels = len(table.values)
    widths = ((0, padded_channels(channels) - channels), (0, 0), (0, 0))
    return np.ascontiguousarray(np.pad(table.values, widths).transpose(1, 2, 0))
